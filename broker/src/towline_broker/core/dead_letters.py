"""Dead jobs: looking at them, and deciding about them."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from towline_broker.core.finding import in_sight
from towline_broker.core.listing import list_dead
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.settings import CoreSettings
from towline_broker.core.stores import Store, Stores
from towline_broker.domain.identity import Sight
from towline_broker.domain.jobs import JobPage
from towline_broker.drivers.interface import DeadFilter, DeadQuery, DeadSelection, Feature, Handled


class DeadLetters:
    def __init__(self, stores: Stores, settings: CoreSettings, owned: OwnedTasks) -> None:
        self._stores = stores
        self._settings = settings
        self._owned = owned

    async def list_dead(self, query: DeadQuery) -> JobPage:
        """Of several stores one after the other, unless a queue is named."""
        return await self._owned.run(list_dead(self._stores, query))

    async def requeue(
        self,
        ids: Sequence[str] | None,
        where: DeadFilter,
        limit: int,
        dry_run: bool,
        sight: Sight = None,
    ) -> Handled:
        """By ids, passing over those of jobs out of ``sight``, or by filter when ``ids`` is
        None."""

        async def requeue_in(store: Store, selection: DeadSelection) -> Handled:
            return await store.driver.requeue_dead(selection)

        ids = await self._in_sight(ids, sight)
        return await self._handle(ids, where, limit, None if dry_run else requeue_in)

    async def discard(
        self,
        ids: Sequence[str] | None,
        where: DeadFilter,
        limit: int,
        dry_run: bool,
        sight: Sight = None,
    ) -> Handled:
        """By ids, passing over those of jobs out of ``sight``, or by filter when ``ids`` is
        None."""

        async def discard_in(store: Store, selection: DeadSelection) -> Handled:
            remember_until = selection.now + self._settings.settle_memory
            return await store.driver.discard_dead(selection, remember_until)

        ids = await self._in_sight(ids, sight)
        return await self._handle(ids, where, limit, None if dry_run else discard_in)

    async def _in_sight(self, ids: Sequence[str] | None, sight: Sight) -> Sequence[str] | None:
        if ids is None or sight is None:
            return ids
        return await self._owned.run(in_sight(self._stores, ids, sight))

    async def _handle(
        self,
        ids: Sequence[str] | None,
        where: DeadFilter,
        limit: int,
        handle: Callable[[Store, DeadSelection], Awaitable[Handled]] | None,
    ) -> Handled:
        """Store by store, up to the limit in all; what lies beyond it is only counted, as is
        everything without ``handle``."""
        if ids is not None and not ids:
            return Handled(0, 0)
        if ids is None and where.queue is not None:
            stores: Sequence[Store] = self._stores.holding(where.queue)
        else:
            stores = self._stores.offering(Feature.DEAD_LETTERS)

        async def handle_all() -> Handled:
            matched = handled = 0
            for store in stores:
                left = limit - handled
                selection = DeadSelection(left, store.clock.now(), ids, where)
                if handle is None or left <= 0:
                    matched += await store.driver.count_dead(replace(selection, limit=limit))
                else:
                    done = await handle(store, selection)
                    matched, handled = matched + done.matched, handled + done.handled
            return Handled(matched, handled)

        return await self._owned.run(handle_all())
