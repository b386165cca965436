"""Queues as a whole: pausing, purging, counting."""

from typing import Protocol

from msgspec import Struct

from towline_broker.domain.jobs import Counts
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface.handled import Handled


class QueueState(Struct, frozen=True, gc=False):
    name: str
    paused: bool
    #: On its way to the store of this name, or already there; empty: at home here.
    moving_to: str = ""
    #: The move is complete: see :meth:`TransferStore.forward`.
    moved: bool = False


class PurgeRequest(Struct, frozen=True, gc=False):
    queue: str
    limit: int
    now: Micros
    remember_until: Micros


class QueueStore(Protocol):
    """Queues as a whole. A queue exists from its first job on."""

    async def queues(self) -> list[QueueState]:
        """Every queue, by name."""

    async def set_paused(self, queue: str, paused: bool) -> bool:
        """Returns whether that changed anything. Raises QueueNotFound."""

    async def purge(self, request: PurgeRequest) -> Handled:
        """Removes up to ``limit`` READY and SCHEDULED jobs; the settle memory keeps their ids
        (state CANCELLED), and unique keys are freed. Counted as cancelled. Retention does not
        count. Raises QueueNotFound."""

    async def counts(self) -> list[Counts]:
        """Depth and totals for each queue and type that ever had a job. Costs nothing per job."""

    async def oldest_ready(self) -> dict[str, Micros]:
        """For each queue with a READY job: when the one READY for longest became so. (One that
        another store has sent may be passed over while it stands behind younger ones.)"""

    async def reset_totals(self) -> None:
        """Sets all totals to zero; depths stay."""
