"""What has to happen in a store because time passes."""

from typing import Protocol

from towline_broker.domain.jobs import LeaseRecord
from towline_broker.domain.time import Micros


class UpkeepStore(Protocol):
    """What has to happen because time passes. The core calls these when their time has come."""

    async def promote(self, now: Micros, limit: int) -> int:
        """Makes up to ``limit`` SCHEDULED jobs whose time has come READY, in the order of their
        due times, and for equal ones of the order in which they became SCHEDULED; returns how
        many. They are READY since ``now``."""

    async def expire(self, now: Micros, limit: int) -> int:
        """Makes up to ``limit`` SCHEDULED or READY jobs that were never started (attempt 0), and
        whose ``expires_at`` is not after ``now``, DEAD with reason EXPIRED, earliest first; returns
        how many."""

    async def expired_leases(self, now: Micros, limit: int) -> list[LeaseRecord]:
        """Up to ``limit`` live leases whose deadline is not after ``now``, earliest first. Changes
        nothing: the core settles them by :meth:`LeaseStore.nack`."""

    async def forget(self, now: Micros, limit: int) -> int:
        """Removes up to ``limit`` SUCCEEDED or CANCELLED jobs past their retention, settle
        memories past their time, and unique keys past theirs; returns how many records went."""

    async def next_due(self) -> Micros | None:
        """The earliest time at which promote, expire or expired_leases has something to do."""
