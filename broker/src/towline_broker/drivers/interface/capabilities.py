"""What an opened store can promise, and what it cannot do."""

from enum import IntEnum, StrEnum
from pathlib import Path

from msgspec import Struct

from towline_broker.domain.time import Micros


class Durability(IntEnum):
    """The numbers equal those of ``towline.v1.Durability``."""

    NONE = 1
    WINDOW = 2
    DURABLE = 3


class Feature(StrEnum):
    """What a store may be unable to do. What has no name here every store does."""

    PRIORITY = "priorities"
    UNIQUE_KEYS = "unique keys"
    EXPIRY = "jobs that expire"
    RETENTION = "keeping jobs that have ended"
    LOOKUP = "looking up a job by its id"
    CANCEL = "cancelling jobs"
    LISTING = "listing jobs"
    DEAD_LETTERS = "looking at dead jobs"
    PURGE = "counted or partial purging"
    TRANSFER = "moving a queue to another store"


class Capabilities(Struct, frozen=True, gc=False):
    """What the opened store can promise. Declared, never guessed; final once ``open`` has
    returned."""

    name: str
    durability: Durability
    #: The durability in a sentence, for operators.
    durability_note: str
    #: Several brokers may use the store at the same time.
    shared: bool = False
    missing: frozenset[Feature] = frozenset()
    #: The longest delay of a job that the store can keep; None: any.
    max_delay: Micros | None = None
    #: The largest envelope that the store can keep, in bytes; None: any.
    max_envelope: int | None = None
    #: Not every job that becomes READY is told of: who waits for one has to look this often. None:
    #: the listener hears of every one.
    poll_interval: Micros | None = None
    #: Push, reserve, leases, ack, nack and extend never wait for anything: their answers are there
    #: at once. Known before ``open``.
    answers_at_once: bool = False
    #: Where its files are, of a store on the disk of this machine.
    folder: Path | None = None

    @property
    def everything(self) -> bool:
        """Whether all that can be asked of a job is offered."""
        return not self.missing and self.max_delay is None and self.max_envelope is None
