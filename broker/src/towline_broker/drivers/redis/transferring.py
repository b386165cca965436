"""Moving a queue to another store."""

import re
from collections.abc import Sequence

from msgspec.structs import replace

from towline_broker.domain.errors import QueueNotFound
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Copy, CopyPage, Standing, Transfer
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.frames import framed, groups
from towline_broker.drivers.redis.link.interface import Argument
from towline_broker.drivers.redis.looking import unknown_cursor
from towline_broker.drivers.redis.packing import (
    Row,
    StoredJob,
    is_apart,
    pack_job,
    pack_row,
    place_of,
)
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore

#: A partition, and a number in it.
_PLACE = re.compile("([0-9]{1,6})[.]([0-9]{1,15})")
_WAITING = (JobState.SCHEDULED, JobState.READY)


class Transferring(PartitionedStore):
    async def seal(self, queue: str, to: str | None) -> None:
        await self._change_queue(scripts.SEAL, queue, 0, to or "")

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        partition = self._partition(queue)
        blob = await self._link.run(scripts.OUTGOING, partition, [queue, min(limit, MOST)])
        if blob is None:
            raise QueueNotFound(queue)
        return [_transfer(*parts) for parts in groups(blob, 5)]

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        """One partition after the other."""
        partition, after = (0, 0) if cursor is None else self._place(cursor)
        args = [after, max(1, min(limit, MOST))]
        blob, last = await self._link.run(scripts.COPIES, partition, args)
        page = [_copy(parts) for parts in groups(blob, 5)]
        if last:
            return CopyPage(page, f"{partition}.{last.decode()}")
        following = partition + 1
        return CopyPage(page, f"{following}.0" if following < self._link.partitions else None)

    def _place(self, cursor: str) -> tuple[int, int]:
        found = _PLACE.fullmatch(cursor)
        if found is None or int(found[1]) >= self._link.partitions:
            raise unknown_cursor()
        return int(found[1]), int(found[2])

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        async def store(partition: int, places: list[int]) -> list[int]:
            blob = b"".join(_incoming(transfers[place]) for place in places)
            (number,) = await self._change(scripts.RECEIVE, partition, now, blob)
            return [number] + [0] * (len(places) - 1)

        queues = [transfer.new.queue for transfer in transfers]
        return sum(await self._spread([self._partition(queue) for queue in queues], store))

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        async def drop(partition: int, places: list[int]) -> Sequence[bool]:
            told = [_seen(seen[place]) for place in places]
            (answers,) = await self._change(
                scripts.DROP, partition, 0, queue, *(part for each in told for part in each)
            )
            return [digit == ord("1") for digit in answers]

        dropped = await self._spread([self._partition(queue)] * len(seen), drop)
        return [one.job_id for one, gone in zip(seen, dropped, strict=True) if not gone]

    async def forward(self, queue: str) -> bool:
        moved = await self._link.run(scripts.FORWARD, self._partition(queue), ["", "", 0, queue])
        if moved is None:
            raise QueueNotFound(queue)
        return bool(moved == b"1")


def _seen(one: Standing) -> tuple[Argument, ...]:
    return one.job_id, int(one.state), one.attempt


def _copy(parts: tuple[bytes, ...]) -> Copy:
    number, _, row, *_ = parts
    return Copy(_transfer(*parts), place_of(row) if row else int(number))


def _transfer(number: bytes, static: bytes, packed: bytes, holds: bytes, keep: bytes) -> Transfer:
    job = StoredJob(number, static, packed)
    row = job.row
    expires = row.state in _WAITING and row.attempt == 0 and not row.lasting
    new = replace(
        job.head.as_new(),
        expires_at=job.head.expires_at if expires else None,
        unique_until=job.head.unique_until if holds == b"1" else None,
    )
    return Transfer(new, job.record(), holds == b"1", int(keep) or None)


def _incoming(transfer: Transfer) -> bytes:
    new, record = transfer.new, transfer.record
    row = Row(
        state=record.state,
        attempt=record.attempt,
        releases=record.releases,
        available_at=record.available_at or 0,
        started_at=record.started_at or 0,
        finished_at=record.finished_at or 0,
        failure=record.failure,
        progress=record.progress,
        result=record.result,
        dead_reason=record.dead_reason,
    )
    parts = (
        pack_job(new, record.enqueued_at, 0),
        new.envelope if is_apart(new.envelope) else b"",
        pack_row(row),
        b"1" if transfer.holds_key else b"0",
        str(transfer.keep_until or 0).encode(),
    )
    return b"".join(map(framed, parts))
