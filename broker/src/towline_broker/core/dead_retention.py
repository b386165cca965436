"""Dead jobs that are not kept for ever: deleted once their time in the dead-letter queue is over.

Queues without dead letters are those whose dead jobs are kept for no time at all. What is deleted
is discarded as an operator would discard it, so several brokers on one store, each doing this, do
no harm: who comes second finds nothing.
"""

import logging

from msgspec.structs import replace

from towline_broker.core.owned import OwnedTasks
from towline_broker.core.queue_options import FOREVER, RuleBook
from towline_broker.core.settings import CoreSettings
from towline_broker.core.stores import Store
from towline_broker.domain.events import event
from towline_broker.domain.time import MINUTE, SECOND, Micros, to_seconds
from towline_broker.drivers.interface import DeadFilter, DeadQuery, DeadSelection, Feature

log = logging.getLogger("towline.broker")

#: Between two looks. A dead job is gone so soon after its time is over.
INTERVAL: Micros = 1 * SECOND
#: A queue whose oldest dead job has time left is looked at again when that is over, but after so
#: long in any case: a move may have brought older ones. Stores that order the dead of all queues by
#: their deaths look past those of others to find one.
LOOK_AGAIN: Micros = 5 * MINUTE


class DeadRetention:
    def __init__(self, rules: RuleBook, settings: CoreSettings, owned: OwnedTasks) -> None:
        self._rules = rules
        self._settings = settings
        self._owned = owned
        #: When to look at a queue again, and how long its dead jobs were kept when that was found
        #: out.
        self._next: dict[tuple[Store, str], tuple[Micros, Micros]] = {}

    async def round(self, store: Store) -> None:
        """Deletes what is due in one store. Raises StoreError."""
        if not self._rules.any_dead_go or not store.offers(Feature.DEAD_LETTERS):
            return
        counts = await store.driver.counts()
        for queue in sorted({row.queue for row in counts if row.depth.dead}):
            kept = self._rules.of(queue).dead_kept
            if kept < FOREVER and self._is_time(store, queue, kept):
                due = await self._due(store, queue, kept)
                if due <= store.clock.now():
                    await self._delete(store, queue, kept)
                    due = await self._due(store, queue, kept)
                self._next[store, queue] = (min(due, store.clock.now() + LOOK_AGAIN), kept)

    def _is_time(self, store: Store, queue: str, kept: Micros) -> bool:
        known = self._next.get((store, queue))
        return known is None or known[1] != kept or known[0] <= store.clock.now()

    async def _delete(self, store: Store, queue: str, kept: Micros) -> None:
        """In small steps, so that calls come in between, each of which is brought to its end."""
        limit, deleted = self._settings.upkeep_batch, 0
        while True:
            now = store.clock.now()
            selection = DeadSelection(
                limit, now, filter=DeadFilter(queue=queue, dead_before=now - kept + 1)
            )
            remember_until = now + self._settings.settle_memory
            step = await self._owned.run(store.driver.discard_dead(selection, remember_until))
            deleted += step.handled
            if step.handled < limit:
                break
        if deleted:
            kept_for = f"keeps them for {to_seconds(kept):g} s" if kept else "keeps none"
            log.info(
                "%d dead jobs are deleted of queue %s, which %s",
                deleted,
                queue,
                kept_for,
                extra=event("dead_deleted", store=store.name, queue=queue, count=deleted),
            )

    @staticmethod
    async def _due(store: Store, queue: str, kept: Micros) -> Micros:
        """When the time of its oldest dead job is over; if it has none, that of one that dies from
        now on."""
        query = DeadQuery(1, DeadFilter(queue=queue))
        page = await store.driver.list_dead(query)
        while not page.records and page.next_cursor is not None:  # it has looked at many others
            page = await store.driver.list_dead(replace(query, cursor=page.next_cursor))
        died = page.records[0].finished_at if page.records else None
        return (store.clock.now() if died is None else died) + kept
