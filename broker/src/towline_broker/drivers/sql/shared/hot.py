"""What a database may offer for the calls that there are most of: each in one or two statements.

They do the simple cases only. What is not simple (a job that is known already, a lease that is
over) they leave as it is, and the operations of ``pushes.py``, ``claims.py`` and ``settles.py`` do
it.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from towline_broker.domain.jobs import LeaseRef
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ReserveRequest
from towline_broker.drivers.sql.names import Kind


class Shape(NamedTuple):
    """What jobs have in common that differ in their ids and envelopes only."""

    kind: Kind
    priority: int
    retention: Micros
    #: As :meth:`RetryPolicy.to_text` writes it.
    retry: str | None


class Line(NamedTuple):
    """The only line of a queue: all its jobs have this priority."""

    queue: int
    priority: int


class Claimed(NamedTuple):
    """A job that was just leased. (The first three as of ``next_ready``.)"""

    seq: int
    priority: int
    position: int
    id: str
    kind: int
    #: Of this lease.
    attempt: int
    enqueued_at: Micros
    available_at: Micros
    noted: int
    envelope: bytes
    #: How many jobs were looked at, of which the last may not have been leased.
    looked_at: int


class Ended(NamedTuple):
    """A job that has succeeded and is gone."""

    id: str
    grant: str
    kind: int
    started_at: Micros | None


class Hot(Protocol):
    """Within the transaction of a session, whose counters stay as they are."""

    async def insert(self, shape: Shape, ids: Sequence[str], now: Micros) -> int:
        """Stores READY jobs, still without their envelopes, in consecutive places; returns the
        first.

        What the database says of an id that is there already is :attr:`Trouble.RACE`."""

    async def fill(
        self, shape: Shape, first: int, ids: Sequence[str], envelopes: Sequence[bytes]
    ) -> bool:
        """Stores the envelopes of jobs that were just inserted. False if the jobs may not stay: one
        is remembered as ended, by all that was committed up to now, or the queue has moved."""

    async def claim(
        self, line: Line, mark: int, until: Micros, request: ReserveRequest
    ) -> Sequence[Claimed]:
        """Leases the first jobs of a line, from the mark on, in their order, up to the request's
        bounds.

        None at all if the queue is paused or moves, has other lines as well, if the request was
        granted jobs before, or one of those looked at is too old."""

    async def claim_each(
        self, line: Line, mark: int, requests: Sequence[ReserveRequest]
    ) -> Sequence[Claimed]:
        """The same for several requests of one job each, whatever bound in bytes they have: leases
        the first job to the first, and so on, as far as there are jobs. None at all also if one of
        the requests was granted a job before; no two may have the same id."""

    async def finish(
        self, refs: Sequence[LeaseRef], now: Micros, remember_until: Micros
    ) -> Sequence[Ended]:
        """Ends leases, and remembers them as acknowledged without a result; their jobs go.

        Leaves those that are over, and jobs with a retention, a unique key or notes. The queue in a
        ref is not looked at."""
