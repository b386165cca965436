"""What a store in memory tells of its queues, which may be many: other calls come in between.

Each row is as it stands when its turn comes.
"""

from towline_broker.domain.jobs import Counts
from towline_broker.domain.pieces import pieces
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import QueueState
from towline_broker.drivers.memory.engine import Engine


async def queues(engine: Engine) -> list[QueueState]:
    found: list[QueueState] = []
    async for names in pieces(sorted(engine.state.queues)):
        found += engine.queues(names)
    return found


async def counts(engine: Engine) -> list[Counts]:
    found: list[Counts] = []
    async for pairs in pieces(sorted(engine.state.tallies)):
        found += engine.counts(pairs)
    return found


async def oldest_ready(engine: Engine) -> dict[str, Micros]:
    found: dict[str, Micros] = {}
    async for names in pieces(list(engine.state.queues)):
        found |= engine.oldest_ready(names)
    return found
