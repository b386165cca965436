"""Dead jobs. Of several partitions, they are put in the order of the times of their deaths, and
those of one time in that of their partitions."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from towline_broker.domain.jobs import JobPage, JobRecord
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import DeadFilter, DeadQuery, DeadSelection, Handled
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.link.interface import Argument, Call
from towline_broker.drivers.redis.looking import stored_jobs, unknown_cursor
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore, together

_CURSOR = re.compile(r"([0-9]{1,17})\.([0-9]{1,4})\.([0-9]{1,15})")
#: Behind any number.
_LAST = "9" * 15


class _Place(NamedTuple):
    """Where a dead job stands among all."""

    died: Micros
    partition: int
    number: int


class _Dead(NamedTuple):
    place: _Place
    job_id: str


class DeadLetters(PartitionedStore):
    async def list_dead(self, query: DeadQuery) -> JobPage:
        limit = max(1, min(query.limit, MOST))
        calls = [
            Call(scripts.LIST_DEAD, each, [limit, *_filter(query.filter), *behind])
            for each, behind in zip(self._partitions, self._behind(query.cursor), strict=True)
        ]
        found: list[tuple[_Place, JobRecord]] = []
        ends: list[_Place] = []
        for partition, (blob, more) in enumerate(await self._link.run_all(calls)):
            for job in stored_jobs(blob):
                place = _Place(job.row.finished_at, partition, int(job.number))
                found.append((place, job.record()))
            if more == b"1":
                ends.append(found[-1][0])
        found.sort(key=lambda entry: entry[0])
        found = [entry for entry in found if entry[0] <= min(ends, default=entry[0])][:limit]
        if not found:
            return JobPage([])
        # There may be none behind the last; the page after it is empty then.
        last = found[-1][0]
        cursor = f"{last.died}.{last.partition}.{last.number}"
        return JobPage([record for _, record in found], cursor)

    def _behind(self, cursor: str | None) -> Sequence[tuple[str, str]]:
        """For each partition the time of death and the number to go on behind."""
        if cursor is None:
            return [("", "")] * self._link.partitions
        match = _CURSOR.fullmatch(cursor)
        if match is None:
            raise unknown_cursor()
        died, partition, number = match[1], int(match[2]), match[3]
        return [
            (died, number if each == partition else _LAST if each < partition else "0")
            for each in self._partitions
        ]

    async def count_dead(self, selection: DeadSelection) -> int:
        matched, _ = await self._find_dead(selection, 0)
        return matched

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        async def requeue(partition: int, ids: Sequence[str]) -> int:
            (number,) = await self._change(scripts.REQUEUE_DEAD, partition, selection.now, *ids)
            return int(number)

        return await self._handle(selection, requeue)

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        async def discard(partition: int, ids: Sequence[str]) -> int:
            (number,) = await self._change(
                scripts.DISCARD_DEAD, partition, selection.now, remember_until, *ids
            )
            return int(number)

        return await self._handle(selection, discard)

    async def _handle(
        self, selection: DeadSelection, change: Callable[[int, Sequence[str]], Awaitable[int]]
    ) -> Handled:
        """Looks for the first that are chosen, then changes those of them that are still dead."""
        matched, dead = await self._find_dead(selection, min(selection.limit, MOST))
        limit = min(matched, selection.limit)
        handled = 0
        while dead and handled < limit:
            ids: dict[int, list[str]] = {}
            for one in dead:
                ids.setdefault(one.place.partition, []).append(one.job_id)
            handled += sum(await together(change(*group) for group in ids.items()))
            if handled < limit:
                _, dead = await self._find_dead(selection, min(limit - handled, MOST))
        return Handled(matched, handled)

    async def _find_dead(self, selection: DeadSelection, most: int) -> tuple[int, list[_Dead]]:
        """How many the selection meets, and the first of them."""
        args: list[Argument] = ["filter", *_filter(selection.filter), most]
        if selection.ids is not None:
            args = ["ids", *selection.ids]
        matched = 0
        found: list[_Dead] = []
        ends: list[_Place] = []
        replies = await self._ask(scripts.FIND_DEAD, *args)
        for partition, (number, lines, more) in enumerate(replies):
            matched += number
            for line in lines.decode().splitlines():
                died, job_number, job_id = line.split(" ", 2)
                found.append(_Dead(_Place(int(died), partition, int(job_number)), job_id))
            if more == b"1":
                ends.append(found[-1].place)
        # Behind the end of what one partition has told, it may have jobs that come before others'.
        found = [one for one in sorted(found) if one.place <= min(ends, default=one.place)]
        return matched, found[:most]


def _filter(wanted: DeadFilter) -> list[Argument]:
    parts = (wanted.queue, wanted.type, wanted.reason, wanted.dead_after, wanted.dead_before)
    return ["" if part is None else str(part) for part in parts]
