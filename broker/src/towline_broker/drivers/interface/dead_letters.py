"""Looking at dead jobs, requeueing and discarding them."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from towline_broker.domain.jobs import DeadReason, JobPage
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface.handled import Handled


class DeadFilter(Struct, frozen=True, gc=False):
    """Every field that is not None must match."""

    queue: str | None = None
    type: str | None = None
    reason: DeadReason | None = None
    #: Died at or after.
    dead_after: Micros | None = None
    #: Died before.
    dead_before: Micros | None = None


class DeadQuery(Struct, frozen=True, gc=False):
    limit: int
    filter: DeadFilter = DeadFilter()
    cursor: str | None = None


class DeadSelection(Struct, frozen=True, gc=False):
    """By ids when ``ids`` is not None, else by filter; oldest death first, at most ``limit``."""

    limit: int
    now: Micros
    ids: Sequence[str] | None = None
    filter: DeadFilter = DeadFilter()


class DeadLetterStore(Protocol):
    """Dead jobs. They are out of the way of every other operation."""

    async def list_dead(self, query: DeadQuery) -> JobPage:
        """Dead jobs in the order of the times at which they died (of equal times: any order, but
        always the same); paging as in :meth:`JobStore.list_jobs`."""

    async def count_dead(self, selection: DeadSelection) -> int:
        """How many dead jobs the selection meets, whatever its limit."""

    async def requeue_dead(self, selection: DeadSelection) -> Handled:
        """Makes them READY with attempt 0, behind the others of their priority. The failure stays,
        ``expires_at`` no longer counts, and no unique key is taken."""

    async def discard_dead(self, selection: DeadSelection, remember_until: Micros) -> Handled:
        """Removes them. The settle memory keeps their ids (state DEAD), and unique keys are
        freed."""
