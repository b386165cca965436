"""Queues as a whole, and what brokers know of each other."""

from collections.abc import Iterable
from dataclasses import fields
from struct import Struct
from typing import Any

from towline_broker.domain.jobs import Counts, Depth
from towline_broker.domain.pieces import pieces
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Handled, PurgeRequest, QueueState
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore

_TIME = Struct("<q")
_DEPTHS = frozenset(one.name for one in fields(Depth))


def pairs(flat: list[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


class Queues(PartitionedStore):
    async def queues(self) -> list[QueueState]:
        states = []
        for names, marks in await self._ask(scripts.QUEUES):
            marked = dict(pairs(marks))
            states += [_state(name, marked.get(name, b"00")) for name in names]
        return sorted(states, key=lambda state: state.name)

    async def set_paused(self, queue: str, paused: bool) -> bool:
        (changed,) = await self._change_queue(scripts.SET_PAUSED, queue, 0, int(paused))
        return bool(changed == b"1")

    async def purge(self, request: PurgeRequest) -> Handled:
        matched, handled = 0, 0
        while True:
            step = min(request.limit - handled, MOST)
            waiting, gone = await self._change_queue(
                scripts.PURGE, request.queue, request.now, step, request.remember_until
            )
            matched = matched or waiting
            handled += gone
            if gone < step or handled >= min(matched, request.limit):
                return Handled(matched, handled)

    async def counts(self) -> list[Counts]:
        return await _counts(await self._ask(scripts.COUNTS))

    async def _counts_in(self, partition: int) -> list[Counts]:
        return await _counts([await self._link.run(scripts.COUNTS, partition)])

    async def oldest_ready(self) -> dict[str, Micros]:
        replies = await self._ask(scripts.OLDEST_READY)
        return {queue.decode(): int(time) for reply in replies for queue, time in pairs(reply)}

    async def reset_totals(self) -> None:
        await self._ask(scripts.RESET_TOTALS)


class Peers(PartitionedStore):
    """Notices are kept in the first partition."""

    async def time(self, now: Micros) -> Micros:
        return await self._link.time()

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        await self._link.run(scripts.POST, 0, [broker_id, notice, until])

    async def notices(self, now: Micros) -> dict[str, bytes]:
        found = {}
        for broker, kept in pairs(await self._link.run(scripts.NOTICES, 0)):
            (until,) = _TIME.unpack_from(kept)
            if until > now:
                found[broker.decode()] = kept[_TIME.size :]
        return found


async def _counts(replies: Iterable[list[Any]]) -> list[Counts]:
    """There can be many: other calls come in between."""
    found: dict[tuple[str, str], Counts] = {}
    for depths, totals in replies:
        async for piece in pieces([*pairs(depths), *pairs(totals)]):
            for name, number in piece:
                queue, type_, what = name.decode().split("|")
                counts = found.setdefault((queue, type_), Counts(queue, type_))
                part: Any = counts.depth if what in _DEPTHS else counts.totals
                setattr(part, what, int(number))
    return [counts for _, counts in sorted(found.items())]


def _state(name: bytes, marks: bytes) -> QueueState:
    return QueueState(
        name.decode(),
        paused=marks[:1] == b"1",
        moving_to=marks[2:].decode(),
        moved=marks[1:2] == b"1",
    )
