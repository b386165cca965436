"""The lines of an export, format 1: objects of JSON, told apart by their field ``is``.

The first line is a :class:`Header`. Then comes each queue with its :class:`QueueLine`, followed by
its jobs in the order in which a store has to receive them. The last line is the :class:`End`.
Fields that have their default are left out. Times are microseconds since 1970 on the clock of the
store, lengths of time are microseconds, and bytes are base64.
"""

from typing import TypeAlias

import msgspec

VERSION = 1


class _Line(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, tag_field="is"):
    pass


class _Part(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    pass


class Header(_Line, tag="towline-export"):
    version: int
    #: The release of the broker that wrote it.
    made_by: str
    made_at: int
    #: The kind of the store that it was made of.
    store: str
    #: Of the names of queues, if not all were asked for.
    patterns: list[str] = []


class QueueLine(_Line, tag="queue"):
    name: str
    #: Of jobs that the queue has or had.
    types: list[str]
    paused: bool = False
    #: On its way to the store of this name, or there already.
    moving_to: str = ""
    moved: bool = False


class Retry(_Part):
    max_attempts: int
    jitter: float
    #: Either these, ...
    delays: list[int] | None = None
    #: ... or these three.
    initial: int | None = None
    multiplier: float | None = None
    maximum: int | None = None


class FailureLine(_Part):
    type: str
    message: str = ""
    trace: str = ""
    at: int = 0


class ProgressLine(_Part):
    fraction: float = 0.0
    message: str = ""
    checkpoint: bytes = b""


class JobLine(_Line, tag="job"):
    id: str
    queue: str
    type: str
    #: The name of a JobState.
    state: str
    enqueued_at: int
    priority: int = 0
    attempt: int = 0
    releases: int = 0
    available_at: int | None = None
    started_at: int | None = None
    finished_at: int | None = None
    lease_until: int | None = None
    worker_id: str = ""
    expires_at: int | None = None
    retention: int = 0
    keep_until: int | None = None
    unique_key: str | None = None
    unique_until: int | None = None
    holds_key: bool = False
    #: None: the default policy.
    retry: Retry | None = None
    #: The name of a DeadReason.
    dead_reason: str | None = None
    failure: FailureLine | None = None
    progress: ProgressLine | None = None
    result: bytes = b""
    payload: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = {}
    #: The rest of the job's message as it was pushed (``towline.v1.Job``), whatever is in it.
    rest: bytes = b""


class End(_Line, tag="end"):
    #: All lines before this one.
    lines: int
    jobs: int
    #: Of all bytes before this line, in hexadecimal.
    sha256: str


Line: TypeAlias = Header | QueueLine | JobLine | End

_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    return _ENCODER.encode(line) + b"\n"


def decode(line: bytes) -> Line:
    """Raises msgspec.MsgspecError."""
    return _DECODER.decode(line)
