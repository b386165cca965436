"""How producers and workers behave: plainly, or with all that the contract allows."""

import json
import random
from dataclasses import asdict, dataclass, replace

#: Of every job.
TYPE = "Load"


@dataclass(frozen=True, slots=True)
class Habits:
    """Shares are of 1. Times are in seconds."""

    queue: str = "load"
    # --- of producers ---
    #: Jobs in one Push.
    push_batch: int = 20
    #: A pause after each Push; keeps a backlog from growing without bound.
    pause: float = 0.0
    #: Jobs have one of so many priorities.
    priorities: int = 1
    #: Share of jobs with a delay, and how long that is at most.
    delayed: float = 0.0
    delay: float = 1.0
    #: Share of jobs with one to three attempts; the others have a thousand.
    few_attempts: float = 0.0
    #: Share of jobs that expire soon.
    expiring: float = 0.0
    #: Share of jobs with one of a few unique keys.
    unique: float = 0.0
    #: Share of calls that are made again although they were answered.
    repeated: float = 0.0
    #: Bytes.
    payload: int = 20
    #: How long ended jobs stay readable, so that the end of each can be compared.
    retention: float = 0.0
    # --- of workers ---
    #: Jobs in one Reserve.
    reserve_batch: int = 20
    lease: float = 5.0
    #: How long a batch is worked at.
    handling: float = 0.0
    #: Shares of leases that are not acknowledged but failed, rejected, given back or left alone.
    retry: float = 0.0
    reject: float = 0.0
    release: float = 0.0
    abandon: float = 0.0
    #: Share of batches for which a heartbeat is sent.
    heartbeat: float = 0.0
    #: Share of batches after which an old token is tried.
    stale: float = 0.0
    #: Share of Reserves that carry a request_id and are made again after a failure.
    named_reserves: float = 0.0
    # --- of both ---
    call_timeout: float = 5.0
    #: Share of calls in which one item stands twice, or one is no lease at all.
    clumsy: float = 0.0
    # --- of an operator ---
    #: Between two of its deeds; 0: there is none.
    operated: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Habits":
        return cls(**json.loads(text))


def payload_of(job_id: str, habits: Habits) -> bytes:
    """Whoever gets the job can tell whether it is the one that was pushed."""
    return random.Random(job_id).randbytes(habits.payload)


#: As fast as it goes: for many jobs.
PLAIN = Habits()

#: Everything.
MIXED = Habits(
    pause=0.01,
    priorities=3,
    delayed=0.1,
    few_attempts=0.3,
    expiring=0.02,
    unique=0.1,
    repeated=0.1,
    retention=3600.0,
    lease=2.0,
    handling=0.005,
    retry=0.08,
    reject=0.02,
    release=0.05,
    abandon=0.02,
    heartbeat=0.1,
    stale=0.1,
    named_reserves=0.5,
    clumsy=0.2,
    operated=0.1,
)


def calm(habits: Habits) -> Habits:
    """The same without what would keep a drain from ever ending soon."""
    return replace(habits, abandon=0.0, handling=0.0)
