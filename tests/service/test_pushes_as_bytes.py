"""A Push is answered the same, whether its jobs are looked up by their shapes or read anew."""

from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace

from tests.core.manual_clock import ManualClock
from tests.fuzz.mutation import ByteMutator, MessageMutator
from tests.support.acting import acting_as
from tests.support.calls import seconds
from towline.v1.job_pb2 import DelayList, Job, RetryPolicy
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.core.broker import Broker
from towline_broker.core.queue_options import QueueOptions
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.errors import TowlineError
from towline_broker.domain.identity import Identity, Rights
from towline_broker.domain.jobs import NewJob
from towline_broker.drivers.interface import Capabilities, Feature, JobQuery, PushBatch, PushResult
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.services import pushing
from towline_broker.services.limits import Limits
from towline_broker.services.pushes import Pushes
from towline_broker.status import InvalidRequest

#: Small, so that bounds are met.
LIMITS = Limits(
    batch=20, payload_bytes=20_000, content_type_bytes=40, headers_bytes=200, header_key_bytes=20
)
SETTINGS = CoreSettings(max_queue_depth=200)
#: Requests of each kind; each is sent to both.
REQUESTS = 900


class Recording(MemoryDriver):
    """Remembers what it was asked to store."""

    def __init__(self) -> None:
        super().__init__(Engine())
        self._capabilities = super().capabilities
        self.asked: list[NewJob] = []

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def push(self, batch: PushBatch) -> list[PushResult]:
        self.asked.extend(batch.jobs)
        return await super().push(batch)


class Side:
    """A broker, and what it makes of each request."""

    def __init__(self) -> None:
        self.store = Recording()
        self.broker = Broker(self.store, clock=ManualClock(), settings=SETTINGS)
        self.pushes = Pushes(self.broker, LIMITS)

    async def outcome(self, raw: bytes) -> tuple[Any, list[NewJob]]:
        """The reply or the error, and what the store was asked to keep."""
        self.store.asked.clear()
        try:
            told: Any = (await self.pushes.answer(self.pushes.read(raw))).message
        except DecodeError:
            told = DecodeError
        except TowlineError as error:
            told = (type(error), str(error))
        return told, [*self.store.asked]


class Forgetful(Side):
    """Reads every job anew."""

    async def outcome(self, raw: bytes) -> tuple[Any, list[NewJob]]:
        self.pushes = Pushes(self.broker, LIMITS)
        return await super().outcome(raw)


@pytest.fixture(autouse=True)
def _numbered_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of random ones: all jobs that bring no id get the same."""
    monkeypatch.setattr(pushing, "uuid7", lambda: "0190a000-0000-7000-8000-aaaaaaaaaaaa")


@pytest.fixture
async def sides() -> AsyncIterator[tuple[Side, Side]]:
    knowing, forgetful = Side(), Forgetful()
    for side in (knowing, forgetful):
        await side.broker.start()
    yield knowing, forgetful
    for side in (knowing, forgetful):
        await side.broker.stop()


def jobs(rng: Random) -> Iterator[Job]:
    """As the SDK sends them, new ones each time."""
    plain = {"queue": "q", "type": "T", "content_type": "application/json"}
    retry = RetryPolicy(max_attempts=2, delays=DelayList(delays=[seconds(1)]))
    for fields in (
        {"payload": b"x" * 20},
        {"payload": b"x" * 300},
        {"payload": b"x" * 17_000, "priority": -3},
        {"payload": b"x" * 20_000},
        {},
        {"payload": b"{}", "delay": seconds(1), "timeout": seconds(3)},
        {"payload": b"{}", "expires_in": seconds(9), "retention": seconds(2), "retry": retry},
        {"payload": b"{}", "headers": {"traceparent": f"00-{rng.getrandbits(90):x}-03"}},
        {"headers": {"a": "1", "b": "2" * rng.choice((0, 1, 130))}, "priority": 1},
        {"headers": {rng.choice("ab"): "é"}, "content_type": ""},
        {"payload": b"{}", "unique_key": "k"},
        {"payload": b"{}", "run_at": Timestamp(seconds=1_800_000_002)},
        {"payload": b"x" * 200, "content_type": ""},
    ):
        yield Job(**{**plain, **fields}, id=_id(rng))  # type: ignore[arg-type] # each as its field


def _id(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def fields_of(rng: Random) -> list[bytes]:
    """Of one of the jobs, each as it is written."""
    job = rng.choice([*jobs(rng)])
    return [Job(**{field.name: value}).SerializeToString() for field, value in job.ListFields()]


def rearranged(rng: Random) -> bytes:
    """A Push of jobs that few write so: in another order, twice, with what is empty, cut off."""
    raw = b""
    for _ in range(rng.randint(1, 3)):
        whole = fields_of(rng)
        fields = [*whole]
        for _ in range(rng.choice((0, 0, 1, 2))):
            at = rng.randrange(len(fields))
            match rng.randrange(16):
                case 0:
                    fields.insert(rng.randrange(len(fields)), fields.pop(at))
                case 1:
                    fields.insert(at, rng.choice(fields_of(rng)))
                case 2:
                    del fields[at]
                    fields = fields or [b""]
                case 3:
                    fields.insert(at, bytes((rng.choice((10, 18, 26, 34, 42, 114)), 0)))
                case 4:
                    fields.insert(at, b"\x82\x7d" + bytes((rng.randrange(3),)) + b"ab")
                case 5:
                    fields[at] = bytes((rng.choice((10, 18, 26, 34, 42)),)) + fields[at][1:]
                case 6 | 7:
                    fields.insert(4, headers(rng) * rng.choice((1, 1, 2)))
                case 8:
                    fields.insert(4, headers(rng) + headers(rng))
                case 9:
                    fields[-1] = fields[-1][: -rng.choice((1, 2))]
                case _:
                    fields[at] = resized(rng, fields[at]) if fields[at] in whole else b""
        job = b"".join(fields)
        raw += b"\x0a" + size(len(job)) + job
    return raw


def headers(rng: Random) -> bytes:
    """One of a job, or what is nearly one."""
    key, value = (
        rng.choice((b"a", b"b", b"", b"k" * 20, b"k" * 21)),
        b"v" * rng.choice((0, 1, 190, 199)),
    )
    key, value = rng.choice(((key, value), (key, value), (key, b"\xc3\xa9"), (b"\xff", value)))
    parts = [b"\x0a" + size(len(key)) + key, b"\x12" + size(len(value)) + value]
    match rng.randrange(7):
        case 0:
            del parts[rng.randrange(2)]
        case 1:
            parts.append(rng.choice(parts))
        case 2:
            parts.reverse()
        case 3:
            parts[0] = rng.choice((b"\x0a", b"\x12", b"\x1a")) + parts[0][1:]
        case 4:
            parts[1] = parts[1][:1] + size(len(value) + rng.choice((-1, 1)) if value else 1) + value
    entry = b"".join(parts)
    return b"\x32" + size(len(entry) + rng.choice((0, 0, 0, 1))) + entry


def resized(rng: Random, field: bytes) -> bytes:
    """Empty or long, or with a size that is written longer than need be, or is wrong."""
    if field[:1] not in (b"\x0a", b"\x12", b"\x1a", b"\x22", b"\x2a"):
        return field
    value = next(iter(Job.FromString(field).ListFields()))[1]
    raw = value if isinstance(value, bytes) else value.encode()
    match rng.randrange(4):
        case 0:
            return field[:1] + size(len(raw), spare=rng.randint(1, 2)) + raw
        case 1:
            return field[:1] + size(0)
        case 2:
            raw = raw[:1] * rng.choice((127, 128, 20_000, 20_001))
            return field[:1] + size(len(raw)) + raw
    return field[:1] + size(max(0, len(raw) + rng.choice((-1, 1, 20, 300)))) + raw


def size(number: int, spare: int = 0) -> bytes:
    written = bytearray()
    while number > 127 or spare:
        written.append(number & 127 | 128)
        number, spare = number >> 7, spare - (number < 128)
    return bytes([*written, number])


def request(rng: Random) -> bytes:
    some = rng.sample([*jobs(rng)] * 2, rng.randint(1, 9))
    return PushRequest(jobs=some, allow_partial=rng.random() < 0.5).SerializeToString()


def same(one: list[NewJob], other: list[NewJob]) -> bool:
    """But for the order of fields in their envelopes."""
    return len(one) == len(other) and all(
        _fields(a) == _fields(b) and len(a.envelope) == len(b.envelope)
        for a, b in zip(one, other, strict=True)
    )


def _fields(job: NewJob) -> list[Any]:
    named = [getattr(job, name) for name in NewJob.__struct_fields__ if name != "envelope"]
    return [*named, Job.FromString(job.envelope)]


async def compare(sides: tuple[Side, Side], raw: bytes) -> Any:
    (told, kept), (told_anew, kept_anew) = [await side.outcome(raw) for side in sides]
    assert told == told_anew, raw.hex()
    assert same(kept, kept_anew), raw.hex()
    return told


@pytest.mark.parametrize("kind", ["good", "bytes", "message", "fields"])
async def test_known_shapes_are_stored_and_refused_as_jobs_that_are_read(
    sides: tuple[Side, Side], kind: str
) -> None:
    rng = Random(f"{kind} 1")
    of_bytes, of_message = ByteMutator(rng), MessageMutator(rng)
    told = []
    for number in range(REQUESTS):
        raw = request(rng)
        if kind == "bytes":
            raw = of_bytes.mutate(raw)
        elif kind == "message":
            raw = of_message.mutate(raw, PushRequest)
        elif kind == "fields" and number > 20:
            raw = rearranged(rng)
        told.append(await compare(sides, raw))
        if number % 50 == 49:
            for side in sides:
                side.store._engine = Engine()
    kinds = {each if isinstance(each, type) else type(each) for each in told}
    assert len(kinds) == (2 if kind == "good" else 3), "not all was met that can come of a Push"


async def test_one_job_that_differs_is_found_among_those_that_are_alike(
    sides: tuple[Side, Side],
) -> None:
    """Jobs of one shape and size are taken together; so it matters which bytes of them differ."""
    rng = Random(2)
    alike = Job(id=_id(rng), queue="q", type="T", payload=b"x" * 20, content_type="text/plain")
    await compare(sides, PushRequest(jobs=[alike]).SerializeToString())
    size = len(alike.SerializeToString())
    for place in range(size):
        same_size = [Job(id=_id(rng)) for _ in range(4)]
        for job in same_size:
            job.MergeFrom(Job(queue="q", type="T", payload=b"x" * 20, content_type="text/plain"))
        request = PushRequest(jobs=same_size, allow_partial=place % 2 == 0)
        raw = bytearray(request.SerializeToString())
        changed = rng.randrange(4) * (size + 2) + 2 + place
        raw[changed] ^= rng.choice((1, 2, 4, 0x10, 0x20, 0x80))
        await compare(sides, bytes(raw))
    assert len(sides[0].store._engine.list_jobs(JobQuery(limit=1_000)).records) > size


async def test_the_id_of_each_job_is_looked_at_whatever_is_around_it(
    sides: tuple[Side, Side],
) -> None:
    """Shorter envelopes may hold what a longer one lacks to look like a row of UUIDs."""
    known = Job(id=_id(Random(3)), queue="q", type="t")
    await compare(sides, PushRequest(jobs=[known]).SerializeToString())
    jobs = [
        Job(type="01234567-9abc-def"),
        Job(id="0-1234-12345678901201234567-1234-123", queue="q", type="t"),
        Job(type="0-1234-123456789012"),
    ]
    told = await compare(sides, PushRequest(jobs=jobs).SerializeToString())
    assert told[0] is InvalidRequest
    assert told[1].startswith("jobs[1].id: ")


def is_common(job: Job) -> bool:
    only_ascii = all(value.isascii() for value in job.headers.values())
    return only_ascii and not job.unique_key and not job.HasField("run_at")


async def test_a_job_of_a_known_shape_is_not_read(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = Random(1)
    knowing, _ = sides
    common = [job for job in jobs(rng) if is_common(job)]
    await knowing.outcome(PushRequest(jobs=common).SerializeToString())
    monkeypatch.setattr(pushing.JobReader, "read", None)
    again = PushRequest(jobs=[job for job in jobs(rng) if is_common(job)])
    told, kept = await knowing.outcome(again.SerializeToString())
    assert [each.job_id for each in told.results] == [job.id for job in again.jobs]
    # Those that were sent: a copy of a job may be written with its headers in another order.
    assert [new.envelope for new in kept] == [job.SerializeToString() for job in again.jobs]


async def test_of_headers_with_one_key_the_last_counts(sides: tuple[Side, Side]) -> None:
    rng = Random(6)
    one, other = (Job(headers={"a": value}).SerializeToString() for value in "12")
    priority = Job(priority=5).SerializeToString()
    for fields in (one, one + other, priority + one, other + priority + one):
        job = Job(id=_id(rng), queue="q", type="T", payload=b"x").SerializeToString() + fields
        await compare(sides, b"\x0a" + size(len(job)) + job)


async def test_what_is_set_for_a_queue_later_applies_to_known_shapes(
    sides: tuple[Side, Side],
) -> None:
    rng = Random(2)
    await compare(sides, request(rng))
    for options in (QueueOptions(max_attempts=7), QueueOptions(retention=5), QueueOptions()):
        for side in sides:
            side.broker.apply({"q": options})
        for _ in range(10):
            await compare(sides, request(rng))


async def test_what_a_store_did_not_offer_applies_once_the_queue_is_in_another(
    sides: tuple[Side, Side],
) -> None:
    """A move changes nothing of the settings."""
    rng = Random(5)
    for side in sides:
        side.broker.apply({"q": QueueOptions(retention=5)})
    everything = sides[0].store.capabilities
    for lacking in ({Feature.RETENTION}, set()):
        for side in sides:
            side.store._capabilities = replace(everything, missing=frozenset(lacking))
        for _ in range(10):
            await compare(sides, request(rng))


async def test_items_of_known_shapes_are_refused_to_who_may_not_push_there(
    sides: tuple[Side, Side],
) -> None:
    rng = Random(3)
    await compare(sides, request(rng))
    other = Identity("token:other", Rights.of(push=["r"]))
    for _ in range(30):
        some = rng.sample([*jobs(rng)], 5)
        for job in some[:2]:
            job.queue = "r"
        raw = PushRequest(jobs=some, allow_partial=True).SerializeToString()
        with acting_as(other):
            told = await compare(sides, raw)
        assert [each.error.reason for each in told.results][2:] == ["PERMISSION_DENIED"] * 3


async def test_shapes_that_no_other_job_has_are_forgotten(sides: tuple[Side, Side]) -> None:
    rng = Random(4)
    knowing, _ = sides
    for number in range(120):
        some = [Job(id=_id(rng), queue="q", type=f"T{number}.{n}") for n in range(20)]
        await knowing.outcome(PushRequest(jobs=some).SerializeToString())
    assert sum(map(len, knowing.pushes._shapes._known.values())) <= 1_000
