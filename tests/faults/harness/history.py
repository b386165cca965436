"""What clients saw: every call with the time of its begin and of its end, and how it ended.

All times are seconds of one clock that never jumps: ``time.monotonic()`` of one machine, or the
clock of a simulation. What a call did, it did at some moment between its begin and its end; of a
call whose outcome is unknown, at some moment after its begin, or never.

Of the idea: histories as Jepsen and its checkers use them.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any, TypeAlias


class Outcome(StrEnum):
    OK = "ok"
    #: Refused by the broker: nothing was done.
    FAILED = "failed"
    #: No answer: it was done, or will yet be, or never.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Pushed:
    job_id: str
    queue: str
    priority: int = 0
    #: Seconds.
    delay: float = 0.0
    max_attempts: int = 3
    #: Seconds after the Push; None: never.
    expires: float | None = None
    unique_key: str = ""
    #: "created", "existing", "rejected"; empty: the call brought no answer.
    answer: str = ""
    #: Under which id it stands; another one if its unique key was held.
    stored_as: str = ""
    #: Its unique key is held for so many seconds whatever becomes of it; None: until it has ended.
    unique_for: float | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    job_id: str
    attempt: int
    token: str
    #: Seconds left of the lease when the answer was made.
    remaining: float
    #: The job is what was pushed, as far as that can be told by its id.
    whole: bool = True
    #: Seconds for which the lease was asked; None: as long as the broker likes.
    term: float | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    job_id: str
    token: str
    #: "ack", "retry", "reject", "release".
    action: str
    #: Seconds until it may run again, where the action says so; None: the broker decides.
    delay: float | None = None
    #: "ok", "lease_lost", "already_settled", "not_found", "rejected"; empty: no answer.
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat for one lease."""

    job_id: str
    token: str
    #: As of a settle, or "cancelled".
    answer: str = ""
    #: Seconds left of the lease when the answer was made.
    remaining: float = 0.0
    #: As of a delivery.
    term: float | None = None


@dataclass(frozen=True, slots=True)
class Cancelled:
    job_id: str
    #: "cancelled", "already_ended", "not_found"; empty: no answer.
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Requeued:
    """One dead job, asked for by its id."""

    job_id: str
    #: None: no answer.
    done: bool | None = None


@dataclass(frozen=True, slots=True)
class Discarded:
    """One dead job, asked for by its id."""

    job_id: str
    #: None: no answer.
    done: bool | None = None


Item: TypeAlias = Pushed | Delivered | Settled | Beat | Cancelled | Requeued | Discarded

_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Pushed, Delivered, Settled, Beat, Cancelled, Requeued, Discarded)
}


@dataclass(frozen=True, slots=True)
class Call:
    client: str
    #: The RPC, such as "Push".
    rpc: str
    called: float
    #: ``inf``: it never came back.
    returned: float
    outcome: Outcome
    items: tuple[Item, ...] = ()
    #: Name of the status that it failed with.
    error: str = ""
    #: What calls have in common that may bring the answer of one another: the request_id.
    name: str = ""

    def about(self, job_ids: frozenset[str]) -> "Call":
        """The same, without what concerns other jobs."""
        kept = tuple(item for item in self.items if item.job_id in job_ids)
        return replace(self, items=kept)

    def __str__(self) -> str:
        end = "never" if self.returned == inf else f"{self.returned:.4f}"
        how = f"{self.outcome} {self.error}".strip()
        what = "; ".join(_told(item) for item in self.items)
        return f"{self.called:.4f} .. {end}  {self.client}: {self.rpc} -> {how}  {what}"


def _told(item: Item) -> str:
    """Only what is not as it is by default; of a token its end, which tells grants apart."""
    said = {
        f.name: getattr(item, f.name) for f in fields(item) if getattr(item, f.name) != f.default
    }
    if "token" in said:
        said["token"] = f"...{said['token'][-12:]}"
    return " ".join(f"{name}={value}" for name, value in said.items())


@dataclass(frozen=True, slots=True)
class FinalJob:
    """What the broker says of a job after everything has come to rest."""

    job_id: str
    #: As in the contract: "READY", "DEAD", "SUCCEEDED" ...
    state: str
    attempt: int
    releases: int
    #: "REJECTED", "EXPIRED" ...; empty: not dead.
    dead_reason: str = ""
    #: Seconds from its push to its end, by the broker's clock; None: it shows no end.
    lived: float | None = inf
    #: It tells of a failure, or that is not known.
    failed: bool = True


@dataclass(slots=True)
class Final:
    """What the broker says after a full drain."""

    #: Every job that ListJobs shows, in any state.
    jobs: list[FinalJob] = field(default_factory=list)
    #: Ids as ListDead shows them, each as often as it is shown.
    dead: list[str] = field(default_factory=list)
    #: Of Stats; names as in the contract.
    totals: dict[str, int] = field(default_factory=dict)
    depth: dict[str, int] = field(default_factory=dict)
    #: Of the settle memory: how many ended jobs ListJobs does not show because they were pushed
    #: without retention. False: every job that succeeded must be shown.
    forgets_succeeded: bool = True


@dataclass(slots=True)
class History:
    calls: list[Call]
    final: Final

    def about(self, job_ids: frozenset[str]) -> Iterator[Call]:
        """In the order of their begin; calls without an item of these jobs are left out."""
        found = (call.about(job_ids) for call in self.calls if _concerns(call, job_ids))
        return iter(sorted(found, key=lambda call: call.called))


def _concerns(call: Call, job_ids: frozenset[str]) -> bool:
    return any(item.job_id in job_ids for item in call.items)


# --- as JSON, which processes that may be killed write ---


def to_line(call: Call) -> bytes:
    items = [
        [type(item).__name__, *(getattr(item, f.name) for f in fields(item))] for item in call.items
    ]
    row = [call.client, call.rpc, call.called, call.returned, call.outcome, items]
    row += [call.error, call.name]
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Call:
    client, rpc, called, returned, outcome, items, error, name = json.loads(line)
    parsed = tuple(_KINDS[kind](*values) for kind, *values in items)
    return Call(client, rpc, called, returned, Outcome(outcome), parsed, error, name)


def final_to_json(final: Final) -> str:
    return json.dumps(asdict(final))


def final_from_json(text: str) -> Final:
    fields = json.loads(text)
    return Final(**{**fields, "jobs": [FinalJob(**job) for job in fields["jobs"]]})


def read_diary(path: Path) -> Iterator[Call]:
    """The calls of one client. Of a client that was killed the last line may be cut, and a call
    that had begun stands as one that never came back."""
    begun: dict[tuple[str, float], Call] = {}
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        call = from_line(line)
        begun.pop((call.rpc, call.called), None)
        if call.returned == inf:
            begun[call.rpc, call.called] = call
        else:
            yield call
    yield from begun.values()
