"""What a record of the journal holds: how things stand after one call, row by row.

Each row is a MessagePack array of its fields in this order. New fields come at the end, with a
default, and raise the version of the format (``segments.py``): a release that does not know them
would pass over them. Rows name queues, types and
other strings that come again and again by their index in ``names`` of their record, and leases by
their index in ``leases``. Times are microseconds since the epoch.
"""

import msgspec

from towline_broker.domain.time import Micros


class _Row(msgspec.Struct, array_like=True, gc=False):
    """See above."""


class LeaseRow(_Row):
    grant: str
    granted_at: Micros
    until: Micros
    #: As granted.
    length: Micros
    worker_id: str
    request_id: str


class FailureRow(_Row):
    type: str
    message: str
    trace: str
    at: Micros


class ProgressRow(_Row):
    fraction: float
    message: str
    checkpoint: bytes


class JobRow(_Row):
    """A job as a whole. It takes the place of what was known under this id."""

    id: str
    queue: int
    type: int
    envelope: bytes
    priority: int
    number: int
    place: int
    state: int
    #: None: ``now`` of the record; so are the next.
    enqueued_at: Micros | None = None
    available_at: Micros | None = None
    attempt: int = 0
    releases: int = 0
    expires_at: Micros | None = None
    started_at: Micros | None = None
    finished_at: Micros | None = None
    keep_until: Micros | None = None
    lease: int | None = None
    dead_reason: int | None = None
    failure: FailureRow | None = None
    progress: ProgressRow | None = None
    result: bytes = b""
    retention: Micros = 0
    unique_key: str | None = None
    unique_until: Micros | None = None
    #: See RetryPolicy.to_text.
    retry: str | None = None


class StandingRow(_Row):
    """How a job stands now. If it is not known, a later record holds all of it, or it is gone."""

    id: str
    state: int
    place: int
    available_at: Micros
    attempt: int
    releases: int = 0
    expires_at: Micros | None = None
    started_at: Micros | None = None
    finished_at: Micros | None = None
    keep_until: Micros | None = None
    lease: int | None = None
    dead_reason: int | None = None
    #: None, of these three: as before.
    failure: FailureRow | None = None
    progress: ProgressRow | None = None
    result: bytes | None = None


class PushedRow(_Row):
    """Jobs that one call has stored as READY, and that differ in nothing else than their ids and
    envelopes. They are as new as can be: never started, and without a unique key or an expiry."""

    ids: list[str]
    envelopes: list[bytes]
    queue: int
    type: int
    priority: int
    #: Of the first one; so is ``place``. Each further one has the next.
    number: int
    place: int
    #: None: ``now`` of the record. They are READY from then on.
    enqueued_at: Micros | None = None
    retention: Micros = 0
    #: See RetryPolicy.to_text.
    retry: str | None = None


class GrantedRow(_Row):
    """Jobs that were READY and are LEASED now; all else about them is as it was. Of those that are
    not known the same is true as in a StandingRow."""

    ids: list[str]
    lease: int
    attempt: int


class EndedRow(_Row):
    """The settle memory of a job, and of the lease that was acknowledged if it ended so."""

    id: str
    queue: int
    state: int
    #: None: ``now`` of the record.
    finished_at: Micros | None
    until: Micros
    number: int
    result: bytes = b""
    #: Of that lease.
    grant: int | None = None


class EndedTogetherRow(_Row):
    """As an EndedRow for each of the jobs, which differ in nothing but the number."""

    ids: list[str]
    queue: int
    state: int
    #: None: ``now`` of the record.
    finished_at: Micros | None
    until: Micros
    #: Of the first one; each further one has the next.
    number: int
    result: bytes = b""
    grant: int | None = None


class SettledRow(_Row):
    """The settle memory of a lease that is not one of its job."""

    job_id: str
    queue: int
    grant: int
    settlement: int
    until: Micros
    number: int


class KeyRow(_Row):
    """Who holds a unique key. No holder: it is free."""

    queue: int
    key: str
    holder: str | None = None
    until: Micros | None = None


class QueueRow(_Row):
    name: int
    paused: bool
    moving_to: str = ""
    moved: bool = False


class TallyRow(_Row):
    """Totals of a type in a queue, in the order of :class:`~towline_broker.domain.jobs.Totals`."""

    queue: int
    type: int
    totals: list[int]


class ForgottenRow(_Row):
    """Every settle memory up to this end, and of those of this end up to this number, is gone."""

    until: Micros
    number: int


class Record(_Row):
    """What one call has changed. Applied in the order of the fields."""

    #: The time of the call.
    now: Micros
    names: list[str] = []
    leases: list[LeaseRow] = []
    #: Ids of jobs that are gone.
    gone: list[str] = []
    queues: list[QueueRow] = []
    tallies: list[TallyRow] = []
    jobs: list[JobRow] = []
    standing: list[StandingRow] = []
    #: Ids whose settle memory was given up early.
    disowned: list[str] = []
    forgotten: ForgottenRow | None = None
    ended: list[EndedRow] = []
    settled: list[SettledRow] = []
    keys: list[KeyRow] = []
    #: Older segments are needed no more: what lives in them stands again in later ones.
    first_segment: int = 0
    pushed: list[PushedRow] = []
    granted: list[GrantedRow] = []
    ended_together: list[EndedTogetherRow] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Record])


def encode(record: Record) -> bytes:
    return _encoder.encode(record)


def encode_frame(records: list[bytes]) -> bytes:
    """The body of a frame: an array of encoded records."""
    # MessagePack's array of up to 2**32 elements.
    return b"".join((b"\xdd", len(records).to_bytes(4, "big"), *records))


def decode_frame(body: bytes | memoryview) -> list[Record]:
    """Raises msgspec.MsgspecError if it is none."""
    try:
        return _decoder.decode(body)
    except UnicodeDecodeError as error:  # msgspec lets it through
        raise msgspec.DecodeError(f"a text is no UTF-8: {error.reason}") from None
