"""Everything that the core and the drivers raise on purpose.

TowlineError
├── InvalidField          a value that the caller sent is wrong
├── NotFound
│   ├── JobNotFound
│   ├── QueueNotFound
│   └── WorkerNotFound
├── Full                  try again later; nothing was changed
│   ├── QueueFull
│   ├── TooManyQueues
│   ├── StoreFull         the disk or the memory
│   ├── TooManyWaiters
│   └── Busy              jobs come faster than they can be stored
├── NotSupported          the store cannot do what was asked, and says so
├── QueueMoved            the queue is at home in another store by now
├── Unauthenticated       nobody knows who calls: no credentials, or bad ones
├── PermissionDenied      who calls may not do this
├── CannotVerify          credentials cannot be checked for now: try again later
├── Draining              this broker is going down
├── StreamOver            a stream has come to its end before its caller ended it: open another
├── OptionRefused         a queue is to have an option that its store does not offer
└── StoreError
    ├── StoreUnavailable  try again later; the effect is unknown
    │   └── NoRoom        the disk takes nothing more, not even what makes room
    ├── StoreFailed       an fsync or the like failed: the broker must end
    └── StoreRefused      the store cannot be opened, and waiting will not help
"""

from collections.abc import Sequence

from towline_broker.domain.time import MINUTE, SECOND, Micros


class TowlineError(Exception):
    """Root of the hierarchy. The message is fit to be shown to the caller."""


class InvalidField(TowlineError):
    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class NotFound(TowlineError):
    reason = "NOT_FOUND"


class JobNotFound(NotFound):
    reason = "JOB_NOT_FOUND"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id} is stored or remembered")


class QueueNotFound(NotFound):
    reason = "QUEUE_NOT_FOUND"

    def __init__(self, queue: str) -> None:
        super().__init__(
            f"no queue {queue!r}: a queue comes into being with its first job; "
            "ListQueues names those that exist"
        )


class WorkerNotFound(NotFound):
    reason = "WORKER_NOT_FOUND"

    def __init__(self, worker_id: str) -> None:
        super().__init__(
            f"no worker {worker_id!r} was heard of lately; ListWorkers names those that were"
        )


class Full(TowlineError):
    """A bound was reached. Nothing was changed; worth another try after ``retry_after``."""

    reason = "FULL"

    def __init__(self, subject: str, message: str, retry_after: Micros = 1 * SECOND) -> None:
        super().__init__(message)
        self.subject = subject
        self.retry_after = retry_after


class QueueFull(Full):
    reason = "QUEUE_FULL"

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(f"queue:{queue}", f"queue {queue!r} holds its limit of {limit} live jobs")
        self.queue = queue
        self.limit = limit


class TooManyQueues(Full):
    """The queue does not exist, and would be one more than there may be."""

    reason = "TOO_MANY_QUEUES"

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(
            "queues",
            f"queue {queue!r} would be new, and its store has {limit} queues, which is the limit: "
            "push to one that exists, or have core.max_queues of the broker raised",
            retry_after=1 * MINUTE,  # nothing makes room by itself
        )


class StoreFull(Full):
    """The disk (or the memory) that the store lives in is full."""

    def __init__(self, subject: str, message: str) -> None:
        super().__init__(subject, message, retry_after=5 * SECOND)
        self.reason = "MEMORY_FULL" if subject == "memory" else "DISK_FULL"


class TooManyWaiters(Full):
    reason = "TOO_MANY_WAITERS"

    def __init__(self, limit: int) -> None:
        super().__init__("waiters", f"{limit} calls are waiting already, which is the limit")


class Busy(Full):
    reason = "BROKER_BUSY"

    def __init__(self) -> None:
        super().__init__(
            "broker", "jobs come faster than this broker can store them; nothing was changed"
        )


class NotSupported(TowlineError):
    """The store cannot do what was asked. Nothing was changed."""

    def __init__(self, store: str, what: str, way_out: str = "") -> None:
        hint = f"; {way_out}" if way_out else ""
        super().__init__(f"a store of the kind {store!r} does not offer {what}{hint}")
        self.what = what


class QueueMoved(TowlineError):
    """The queue has moved to another store of the broker. Nothing was changed."""

    def __init__(self, queue: str, to: str) -> None:
        super().__init__(
            f"queue {queue!r} has moved to store {to!r}; try again, and if that goes on, the "
            "settings of the broker lack that store"
        )
        self.queue = queue
        self.to = to


class Unauthenticated(TowlineError):
    """The call has no credentials, or none that are good. The message never holds them."""


class PermissionDenied(TowlineError):
    """``right``: what the caller lacks; ``queue``: where, empty if for no queue in particular. Does
    not tell whether the queue exists."""

    def __init__(self, message: str, right: str = "", queue: str = "") -> None:
        super().__init__(message)
        self.right = right
        self.queue = queue


class CannotVerify(TowlineError):
    """Credentials may be good, but what is needed to check them is out of reach."""


class Draining(TowlineError):
    """The broker is going down and takes no new work."""

    def __init__(self) -> None:
        super().__init__("this broker is shutting down; try again, or try another one")


class StreamOver(TowlineError):
    """A stream that its caller did not end in time. What was not answered has an unknown effect."""


class OptionRefused(TowlineError):
    """Options of queues that their stores do not offer. Never empty."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__("; ".join(found))
        self.found = found


class StoreError(TowlineError):
    """The store did not do what it was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or is too busy, for now."""


class NoRoom(StoreUnavailable):
    """The disk is full, and what was to be done is no new job, which would be StoreFull: settling
    is tried again by whoever meets this, as while a store is away. Nothing was changed."""


class StoreFailed(StoreError):
    """The store broke a promise that durability rests on. Never retried: the broker must end."""


class StoreRefused(StoreError):
    """The store cannot be opened: not ours, of a newer schema, or owned by another broker."""
