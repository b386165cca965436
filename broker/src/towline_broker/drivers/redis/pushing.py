"""Push: one script for a batch that lies in one partition, else a check and then several."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline_broker.domain.errors import QueueFull, QueueMoved, StoreFull, StoreUnavailable
from towline_broker.domain.jobs import NewJob
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import PushBatch, PushOutcome, PushResult
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.frames import framed, join
from towline_broker.drivers.redis.link.interface import Argument
from towline_broker.drivers.redis.packing import is_apart, pack_job
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore, together

#: Most bytes of envelopes that one script takes.
MOST_BYTES = 64 << 20

_OUTCOMES = {
    "C": PushOutcome.CREATED,
    "E": PushOutcome.EXISTING,
    "K": PushOutcome.EXISTING,
    "F": PushOutcome.QUEUE_FULL,
}


@dataclass(slots=True)
class _Part:
    """Jobs for one run of the script, with their places in the batch."""

    partition: int
    places: list[int] = field(default_factory=list)
    jobs: list[NewJob] = field(default_factory=list)
    statics: list[bytes] = field(default_factory=list)
    size: int = 0

    def has_room_for(self, new: NewJob) -> bool:
        return len(self.jobs) < MOST and self.size + len(new.envelope) <= MOST_BYTES

    def add(self, place: int, new: NewJob, static: bytes) -> None:
        self.places.append(place)
        self.jobs.append(new)
        self.statics.append(static)
        self.size += len(new.envelope)


class Pushing(PartitionedStore):
    _last_order = 0

    async def push(self, batch: PushBatch) -> list[PushResult]:
        parts = self._parts(batch)
        results: dict[int, PushResult] = {}
        if len(parts) == 1:
            results = await self._push_part(parts[0], batch, batch.max_depth)
        elif parts:
            results = await self._push_parts(parts, batch)
        return [results[place] for place in range(len(batch.jobs))]

    def _parts(self, batch: PushBatch) -> list[_Part]:
        parts: list[_Part] = []
        open_parts: dict[int, _Part] = {}
        now = batch.now
        orders = self._orders(len(batch.jobs), now)
        for place, (new, order) in enumerate(zip(batch.jobs, orders, strict=True)):
            partition = self._partition(new.queue)
            part = open_parts.get(partition)
            if part is None or not part.has_room_for(new):
                part = open_parts[partition] = _Part(partition)
                parts.append(part)
            due_at = new.due_at if new.due_at is not None and new.due_at > now else 0
            part.add(place, new, pack_job(new, now, due_at, order))
        return parts

    async def _push_parts(self, parts: list[_Part], batch: PushBatch) -> dict[int, PushResult]:
        """A batch that no single script can take. It is refused as a whole before anything is
        stored; from then on, only an outage can leave a part of it."""
        await self._check(parts, batch)
        limits = {} if batch.all_or_nothing else batch.max_depth
        results: dict[int, PushResult] = {}

        async def push_partition(partition: int) -> None:
            for part in parts:
                if part.partition == partition:
                    results.update(await self._push_part(part, batch, limits))

        try:
            await together(map(push_partition, sorted({part.partition for part in parts})))
        except StoreFull:
            if results:
                raise StoreUnavailable(
                    "the memory of a server became full when a part of the jobs was stored; "
                    "the same push again stores the rest"
                ) from None
            raise
        return results

    async def _check(self, parts: Sequence[_Part], batch: PushBatch) -> None:
        """Raises QueueFull and QueueMoved."""
        created: Counter[str] = Counter()
        for part in parts:
            left = {queue: max(0, n - created[queue]) for queue, n in batch.max_depth.items()}
            reply = await self._link.run(
                scripts.CHECK_PUSH,
                part.partition,
                ["", "", batch.now, *_arguments(part, batch), *_limits(part, left)],
            )
            _refuse(reply, batch)
            for queue, number in zip(reply[1::2], reply[2::2], strict=True):
                created[queue.decode()] += number

    def _orders(self, number: int, now: Micros) -> Sequence[int]:
        """Where there are several partitions, what puts their jobs in the order of their push:
        about the time, and different for each job of this broker."""
        if self._link.partitions == 1:
            return [0] * number
        first = max(self._last_order + 1, now)
        self._last_order = first + number - 1
        return range(first, first + number)

    async def _push_part(
        self, part: _Part, batch: PushBatch, limits: Mapping[str, int]
    ) -> dict[int, PushResult]:
        envelopes = [framed(new.envelope) for new in part.jobs if is_apart(new.envelope)]
        call = self._news.begin()
        news = b""
        try:
            reply = await self._link.run(
                scripts.PUSH,
                part.partition,
                [
                    *(call, self._link.channel, batch.now),
                    *(*_arguments(part, batch), b"".join(envelopes)),
                    *_limits(part, limits),
                ],
            )
            if reply[0] == b"ok":
                news = reply[1]
        except BaseException:
            self._news.failed(call)
            raise
        self._news.replied(call, news)
        _refuse(reply, batch)
        return _results(part, reply[2].decode(), iter(reply[3:]))


def _arguments(part: _Part, batch: PushBatch) -> list[Argument]:
    return [int(batch.all_or_nothing), join(part.statics)]


def _limits(part: _Part, limits: Mapping[str, int]) -> list[Argument]:
    named = dict.fromkeys(new.queue for new in part.jobs)
    return [word for queue in named if queue in limits for word in (queue, limits[queue])]


def _refuse(reply: Sequence[Any], batch: PushBatch) -> None:
    if reply[0] == b"full":
        queue = reply[1].decode()
        raise QueueFull(queue, batch.max_depth[queue])
    if reply[0] == b"moved":
        raise QueueMoved(reply[1].decode(), reply[2].decode())


def _results(part: _Part, outcomes: str, holders: Iterator[bytes]) -> dict[int, PushResult]:
    results = {}
    for place, new, outcome in zip(part.places, part.jobs, outcomes, strict=True):
        job_id = next(holders).decode() if outcome == "K" else new.id
        results[place] = PushResult(job_id, _OUTCOMES[outcome])
    return results
