"""Granting leases and ending them."""

from collections.abc import Sequence
from itertools import groupby, islice
from struct import Struct

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.jobs import Leased, LeaseRecord, LeaseRef, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    ExtendBatch,
    Extended,
    ExtendItem,
    NackBatch,
    NackItem,
    ReserveRequest,
    Settled,
)
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.frames import framed, groups, short
from towline_broker.drivers.redis.link.interface import Argument, Call, Link
from towline_broker.drivers.redis.looking import stored_jobs
from towline_broker.drivers.redis.packing import StoredJob, pack_failure
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore
from towline_broker.drivers.redis.together import Together, may_be_joined

_REQUEST = Struct("<qIqqB")
_HEAD = Struct("<BI")
_NACK = Struct("<BBq")
_EXTENSION = Struct("<qB")
_FRACTION = Struct("<d")
#: Stands for no bound in bytes.
_NO_BOUND = 1 << 52


class Leasing(PartitionedStore):
    def __init__(self, link: Link) -> None:
        super().__init__(link)
        self._together = Together(self._reserve_each)

    async def reserve(self, request: ReserveRequest) -> list[Leased]:
        if may_be_joined(request):
            leased = await self._together.ask(request)
            if leased is not None:
                return leased
        runs = [
            (partition, list(queues))
            for partition, queues in groupby(request.queues, self._partition)
        ]
        if request.max_jobs == 0:
            # Asked of a store that may have granted other queues of the request.
            runs = [(each, []) for each in self._partitions]
        if len(runs) > 1:
            held, runs = await self._probe(request, runs)
            if held:
                return held
        return await self._reserve_runs(request, runs)

    async def _probe(
        self, request: ReserveRequest, runs: Sequence[tuple[int, list[str]]]
    ) -> tuple[list[Leased], list[tuple[int, list[str]]]]:
        """What is leased under the request already, and the queues that have something to lease."""
        replies = await self._link.run_all(
            [
                Call(scripts.PROBE, partition, [request.request_id, *queues])
                for partition, queues in runs
            ]
        )
        held: dict[str, Leased] = {}
        able: list[tuple[int, list[str]]] = []
        for (partition, queues), (blob, marks) in zip(runs, replies, strict=True):
            for job in stored_jobs(blob):
                held[job.head.id] = job.leased()
            names = [name for name, mark in zip(queues, marks, strict=True) if mark == ord("1")]
            if names:
                able.append((partition, names))
        return list(held.values()), able

    async def _reserve_runs(
        self, request: ReserveRequest, runs: Sequence[tuple[int, list[str]]]
    ) -> list[Leased]:
        leased: list[Leased] = []
        asked: set[int] = set()
        for partition, queues in runs:
            try:
                # What this very call was granted there is not what it was granted before.
                repeated = partition not in asked
                await self._reserve_run(request, partition, queues, leased, repeated)
            except StoreUnavailable:
                if not leased:
                    raise
                # What was granted elsewhere is delivered.
            asked.add(partition)
            if leased and leased[0].ref.grant != request.grant:
                break
        return leased

    async def _reserve_run(
        self,
        request: ReserveRequest,
        partition: int,
        queues: Sequence[str],
        leased: list[Leased],
        repeated: bool,
    ) -> None:
        """Adds to ``leased`` what one partition gives."""
        while True:
            wanted = min(request.max_jobs - len(leased), MOST)
            room = _room(request, leased)
            if leased and (wanted <= 0 or room <= 0):
                return
            packed = _request(request, wanted, room, repeated)
            [(more, granted)] = await self._serve(partition, queues, [packed], request.now)
            leased += granted
            repeated = False
            if granted and granted[0].ref.grant != request.grant:
                return
            if len(granted) < wanted and not more:
                return
            if wanted == 0:
                return

    async def _reserve_each(self, requests: Sequence[ReserveRequest]) -> list[list[Leased] | None]:
        """Of requests that want one job of the same queue, served one after the other; None for one
        that has to ask by itself, since it was given none though there may be one."""
        queues = requests[0].queues
        packed = [_request(each, each.max_jobs, _room(each, ()), True) for each in requests]
        answers = await self._serve(
            self._partition(queues[0]), queues, packed, max(each.now for each in requests)
        )
        return [None if more and not granted else granted for more, granted in answers]

    async def _serve(
        self, partition: int, queues: Sequence[str], requests: Sequence[bytes], now: Micros
    ) -> list[tuple[bool, list[Leased]]]:
        """Of each request whether there is more to look at, and what it was granted."""
        args: list[Argument] = [b"".join(requests), *queues]
        heads, blob = await self._change(scripts.RESERVE, partition, now, *args)
        jobs = iter(stored_jobs(blob))
        return [
            (more == 1, [job.leased() for job in islice(jobs, number)])
            for more, number in _HEAD.iter_unpack(heads)
        ]

    async def leases(self, refs: Sequence[LeaseRef]) -> list[LeaseRecord | None]:
        async def look(partition: int, places: list[int]) -> list[LeaseRecord | None]:
            named = b"".join(_name(refs[place]) for place in places)
            blob = await self._link.run(scripts.LEASES, partition, [named])
            return [
                StoredJob(*parts).lease_record() if parts[0] else None for parts in groups(blob, 3)
            ]

        return await self._spread([self._partition(ref.queue) for ref in refs], look)

    async def ack(self, batch: AckBatch) -> list[Settled]:
        async def settle(partition: int, places: list[int]) -> list[Settled]:
            items = [batch.acks[place] for place in places]
            blob = b"".join(_name(item.ref) + framed(item.result) for item in items)
            (lines,) = await self._change(
                scripts.ACK, partition, batch.now, batch.remember_until, blob
            )
            return [_settled(line) for line in lines.decode().split("\n")]

        return await self._spread([self._partition(item.ref.queue) for item in batch.acks], settle)

    async def nack(self, batch: NackBatch) -> list[Settled]:
        async def settle(partition: int, places: list[int]) -> list[Settled]:
            blob = b"".join(_nack(batch.nacks[place]) for place in places)
            (lines,) = await self._change(
                scripts.NACK, partition, batch.now, batch.remember_until, blob
            )
            return [_settled(line) for line in lines.decode().split("\n")]

        return await self._spread([self._partition(item.ref.queue) for item in batch.nacks], settle)

    async def extend(self, batch: ExtendBatch) -> list[Extended]:
        async def extend(partition: int, places: list[int]) -> list[Extended]:
            blob = b"".join(_extension(batch.items[place]) for place in places)
            lines = await self._link.run(scripts.EXTEND, partition, ["", "", batch.now, blob])
            return [_extended(line) for line in lines.decode().split("\n")]

        return await self._spread([self._partition(item.ref.queue) for item in batch.items], extend)


def _room(request: ReserveRequest, leased: Sequence[Leased]) -> int:
    if request.max_bytes is None:
        return _NO_BOUND
    return request.max_bytes - sum(len(each.envelope) for each in leased)


def _request(request: ReserveRequest, wanted: int, room: int, repeated: bool) -> bytes:
    """As the script reads it. ``repeated``: it may have been granted jobs before."""
    numbers = _REQUEST.pack(request.now, wanted, request.lease, room, repeated)
    names = (request.grant, request.worker_id, request.request_id)
    return numbers + b"".join(map(short, names))


def _name(ref: LeaseRef) -> bytes:
    return short(ref.queue) + short(ref.job_id) + short(ref.grant)


def _nack(item: NackItem) -> bytes:
    numbers = _NACK.pack(item.settlement, item.dead_reason or 0, item.due_at or 0)
    failure = b"" if item.failure is None else pack_failure(item.failure)
    return numbers + _name(item.ref) + framed(failure)


def _extension(item: ExtendItem) -> bytes:
    length = -1 if item.lease is None else item.lease
    progress = item.progress
    numbers = _EXTENSION.pack(length, progress is not None)
    if progress is None:
        return numbers + _name(item.ref) + _FRACTION.pack(0.0) + framed(b"") + framed(b"")
    told = framed(progress.message.encode()) + framed(progress.checkpoint)
    return numbers + _name(item.ref) + _FRACTION.pack(progress.fraction) + told


def _before(line: str) -> Settlement | None:
    return Settlement(int(line)) if line != "0" else None


def _settled(line: str) -> Settled:
    type_, space, elapsed = line.partition(" ")
    if space:
        return Settled(True, type=type_, elapsed=int(elapsed))
    return Settled(False, before=_before(line))


def _extended(line: str) -> Extended:
    if line.startswith("="):
        return Extended(int(line[1:]))
    return Extended(None, before=_before(line))
