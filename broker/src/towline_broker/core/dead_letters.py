"""Dead jobs: looking at them, and deciding about them."""

from collections.abc import Sequence

from towline_broker.core.clock import Clock
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.jobs import JobPage
from towline_broker.drivers.interface import (
    DeadFilter,
    DeadQuery,
    DeadSelection,
    Driver,
    Handled,
)


class DeadLetters:
    def __init__(
        self, driver: Driver, clock: Clock, settings: CoreSettings, owned: OwnedTasks
    ) -> None:
        self._driver = driver
        self._clock = clock
        self._settings = settings
        self._owned = owned

    async def list_dead(self, query: DeadQuery) -> JobPage:
        return await self._owned.run(self._driver.list_dead(query))

    async def requeue(
        self, ids: Sequence[str] | None, where: DeadFilter, limit: int, dry_run: bool
    ) -> Handled:
        """By ids, or by filter when ``ids`` is None."""
        selection = DeadSelection(limit, self._clock.now(), ids, where)
        if dry_run:
            return await self._only_count(selection)
        return await self._owned.run(self._driver.requeue_dead(selection))

    async def discard(
        self, ids: Sequence[str] | None, where: DeadFilter, limit: int, dry_run: bool
    ) -> Handled:
        """By ids, or by filter when ``ids`` is None."""
        selection = DeadSelection(limit, self._clock.now(), ids, where)
        if dry_run:
            return await self._only_count(selection)
        remember_until = selection.now + self._settings.settle_memory
        return await self._owned.run(self._driver.discard_dead(selection, remember_until))

    async def _only_count(self, selection: DeadSelection) -> Handled:
        return Handled(await self._owned.run(self._driver.count_dead(selection)), 0)
