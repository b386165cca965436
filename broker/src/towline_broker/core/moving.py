"""Moving a queue from one store to another, step by step.

The queue is sealed in its old store: nobody reserves from it there, and nobody in the new store
either, for until the end it is at home in the old one. So a job that is received once more after a
crash meets itself, untouched, and nothing is lost or doubled. Once nothing is left in the old store
and its last lease has ended, it forwards, and the queue is at home in the new one.
"""

import asyncio
from collections.abc import Set
from dataclasses import dataclass

from towline_broker.core.holding import Hold
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.stores import Store, Stores
from towline_broker.core.waiting import EVERYBODY, ReserveLine
from towline_broker.domain.errors import InvalidField, NotSupported, QueueNotFound
from towline_broker.domain.jobs import Depth, JobState
from towline_broker.drivers.interface import Feature, QueueState, Standing

#: While pushes are held back, those that were under way, and those at other brokers, may still
#: leave jobs behind.
LAST_ROUNDS = 5
#: Jobs that one round fetches from a queue's old store.
LEFT_BEHIND = 1_000


@dataclass(frozen=True, slots=True)
class MoveStep:
    #: Jobs that this step brought over.
    moved: int
    #: Jobs that are left in the old store and wait for a next step.
    remaining: int
    #: Jobs that are leased there; they move, or are gone, when their lease has ended.
    leased: int
    complete: bool


class Moving:
    def __init__(self, stores: Stores, owned: OwnedTasks, line: ReserveLine, hold: Hold) -> None:
        self._stores = stores
        self._hold = hold
        self._owned = owned
        self._line = line
        #: One step at a time: two would send the same jobs.
        self._lock = asyncio.Lock()

    async def step(self, queue: str, to: str, limit: int) -> MoveStep:
        """Moves up to ``limit`` jobs; to be called until it says ``complete``.

        A queue that is under way goes back if ``to`` is the store that it came from.

        Raises QueueNotFound, InvalidField (no such store, or the queue is on its way to a third
        one), NotSupported, StoreFull, StoreError.
        """
        return await self._owned.run(self._step(queue, to, limit))

    async def _step(self, queue: str, to: str, limit: int) -> MoveStep:
        async with self._lock:
            await self.look()
            target = self._stores.named(to)
            source = await self._source(queue, target)
            if source is None:
                return MoveStep(0, 0, 0, complete=True)
            moved = await self._carry(queue, source, target, limit)
            remaining, leased = await self._left(queue, source)
            if moved == limit or remaining > limit or leased:
                return MoveStep(moved, remaining, leased, complete=False)
            with self._hold.on(queue):
                for _ in range(LAST_ROUNDS):
                    moved += await self._carry(queue, source, target, limit)
                    if await self._finish(queue, source, target):
                        return MoveStep(moved, 0, 0, complete=True)
            remaining, leased = await self._left(queue, source)
            return MoveStep(moved, remaining, leased, complete=False)

    async def round(self, name: str) -> None:
        """Follows what other brokers move from and to this store, and fetches what was left behind
        there. Each store has rounds of its own: one that is down holds up no other. Raises Full,
        StoreError."""
        store = self._stores.named(name)
        told = await self._stores.refresh_from(store)
        moved = {state.name for state in told if state.moved}
        if moved and store.offers(Feature.TRANSFER):
            # What writes runs to its end, also when the rounds are called off.
            await self._owned.run(self._fetch_from(store, moved))

    async def look(self) -> None:
        """Finds out where queues are at home by now. Raises StoreError."""
        await self._stores.refresh()

    async def _fetch_from(self, store: Store, moved: Set[str]) -> None:
        """A push that was under way when its queue moved on may have left jobs in the old store.

        Brokers that do this at the same time do no harm: who comes second finds the jobs known.
        """
        left = {row.queue for row in await store.driver.counts() if row.depth != Depth()}
        for queue in moved & left:
            async with self._lock:
                home = self._stores.of(queue)
                if home is not store and home.offers(Feature.TRANSFER):
                    await self._carry(queue, store, home, LEFT_BEHIND)

    async def _source(self, queue: str, target: Store) -> Store | None:
        """Where there are jobs to be moved from, and the queue is sealed; None: nothing to do."""
        home = self._stores.of(queue)
        states = {store: await _state(store, queue) for store in self._stores.all}
        if all(state is None for state in states.values()):
            raise QueueNotFound(queue)
        state = states[home]
        lost = self._stores.has_left(queue, state)
        if lost:
            raise InvalidField(
                "queue",
                f"{queue!r} has moved to store {lost!r}, which this broker does not have: name "
                "that store in the settings, so that its jobs can be moved from there",
            )
        bound_for = "" if state is None or state.moved else state.moving_to
        if bound_for and home is target:
            return self._stores.named(bound_for)  # the way back
        if bound_for and bound_for != target.name:
            raise InvalidField(
                "store",
                f"queue {queue!r} is on its way from {home.name!r} to {bound_for!r}: "
                f"finish that first, or turn it round with store {home.name!r}",
            )
        if home is not target:
            source = home
        else:
            left = await self._left_behind(queue, states, target)
            if left is None:
                return None
            source = left
        for store in (source, target):
            if not store.offers(Feature.TRANSFER):
                raise NotSupported(store.capabilities.name, str(Feature.TRANSFER))
        if not bound_for:
            # In this order: if it ends here, the queue is at home where its jobs are.
            await source.driver.seal(queue, target.name)
            await target.driver.seal(queue, None)
            await self.look()
        return source

    async def _left_behind(
        self, queue: str, states: dict[Store, QueueState | None], target: Store
    ) -> Store | None:
        """A store that holds jobs of a queue which is at home elsewhere."""
        for store, state in states.items():
            if state is not None and store is not target and any(await self._left(queue, store)):
                return store
        return None

    async def _carry(self, queue: str, source: Store, target: Store, limit: int) -> int:
        if await _state(source, queue) is None:
            return 0
        transfers = await source.driver.outgoing(queue, limit)
        if transfers:
            await target.driver.receive(transfers, target.clock.now())
            seen = [Standing.of(transfer.record) for transfer in transfers]
            changed = set(await source.driver.drop(queue, seen))
            if changed and source.offers(Feature.LOOKUP) and target.offers(Feature.LOOKUP):
                for one in seen:
                    if one.job_id in changed:
                        await self._take_back(queue, one, source, target)
        return len(transfers)

    @staticmethod
    async def _take_back(queue: str, sent: Standing, source: Store, target: Store) -> None:
        """A job that was changed in the old store while it was on its way is taken out of the new
        one: it comes over as it is now, or not at all if it has ended."""
        if await source.driver.get(sent.job_id) is None:
            return  # another broker has brought it over
        while True:
            copy = await target.driver.get(sent.job_id)
            if copy is None or not copy.type or copy.queue != queue:
                return
            if copy.state is JobState.LEASED or copy.attempt != sent.attempt:
                return  # somebody works with it there already
            # Once more if its time has come meanwhile, so that it stands otherwise.
            if not await target.driver.drop(queue, [Standing.of(copy)]):
                return

    async def _finish(self, queue: str, source: Store, target: Store) -> bool:
        state = await _state(source, queue)
        if state is not None:
            if self._stores.of(queue) is target:  # it comes back
                await source.driver.seal(queue, target.name)
            elif self._stores.of(queue) is source and await _state(target, queue) is not None:
                await target.driver.set_paused(queue, state.paused)
            if not await source.driver.forward(queue):
                return False
        await target.driver.seal(queue, None)
        await self.look()
        self._line.wake(queue, EVERYBODY)
        return True

    async def _left(self, queue: str, store: Store) -> tuple[int, int]:
        """Jobs that can be moved, and leased ones. Jobs that are kept after their end are in no
        count: they are moved all the same."""
        rows = [row.depth for row in await store.driver.counts() if row.queue == queue]
        waiting = sum(depth.ready + depth.scheduled + depth.dead for depth in rows)
        return waiting, sum(depth.leased for depth in rows)


async def _state(store: Store, queue: str) -> QueueState | None:
    for state in await store.driver.queues():
        if state.name == queue:
            return state
    return None
