"""Arguments and results travel as their client says, and are read by their content type."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from tests.sdk.both_clients import answer, connected
from tests.support.broker_process import BrokerProcess
from towline import (
    AsyncClient,
    Client,
    ConfigurationError,
    InvalidJob,
    InvalidPayload,
    Job,
    JobFailed,
    JobRequest,
    JsonSerializer,
    MsgpackSerializer,
    Registry,
    Worker,
    job,
)
from towline.requests import job_message
from towline.serializers import Serializers, read, write
from towline.v1.job_pb2 import Failure, RetryPolicy

registry = Registry()

MSGPACK = "application/msgpack"


class Backwards:
    """Somebody's own way: Python literals, from behind, which no other serializer reads."""

    content_type = "application/x-backwards"

    def dumps(self, value: Any) -> bytes:
        return JsonSerializer().dumps(value)[::-1]

    def loads(self, data: bytes) -> Any:
        return JsonSerializer().loads(data[::-1])


@dataclass
class Line:
    text: str
    due: date | None = None


@job(registry=registry)
def shout(line: Line, times: int = 1) -> Line:
    return Line(line.text.upper() * times, line.due)


class Mirrored(Job, registry=registry):
    serializer = Backwards()
    text: str

    def handle(self) -> str:
        return self.text


class CountFailure(Job, registry=registry):
    """Its one argument is a message, so the message is the payload."""

    job_type = "failures.count"
    failure: Failure

    def handle(self) -> RetryPolicy | None:
        if not self.failure.type:
            return None
        return RetryPolicy(max_attempts=len(self.failure.type))


@job(registry=registry, max_attempts=1)
def no_message_back(failure: Failure) -> str:
    return failure.type


class Mixed(Job, registry=registry):
    """A message among other arguments is JSON as they are."""

    failures: list[Failure]
    note: str = ""

    def handle(self) -> list[Failure]:
        return self.failures


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as server:
        yield server


@pytest.fixture(scope="module")
def working(server: BrokerProcess) -> Iterator[None]:
    with Worker(server.address, registry=registry):
        yield


@pytest.fixture(params=[Client, AsyncClient])
async def packing(
    request: pytest.FixtureRequest, server: BrokerProcess, working: None
) -> AsyncIterator[Any]:
    serializer = MsgpackSerializer()
    async with connected(request.param, server.address, serializer=serializer) as client:
        yield client


@pytest.fixture
def client(server: BrokerProcess, working: None) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


class TestMessagePack:
    async def test_arguments_and_result_travel_in_it(self, packing: Any) -> None:
        handle = await answer(
            packing.dispatch(shout, line=Line("a", date(2026, 1, 1)), retention=60)
        )
        assert await answer(handle.result(timeout=20)) == {"text": "A", "due": "2026-01-01"}
        status = await answer(handle.status())
        assert status.content_type == MSGPACK
        assert msgpack.unpackb(status.result_bytes) == {"text": "A", "due": "2026-01-01"}

    async def test_so_do_jobs_by_name_and_batches(self, packing: Any) -> None:
        by_name = await answer(packing.dispatch("shout", {"line": {"text": "b"}}))
        assert await answer(by_name.result(timeout=20)) == {"text": "B", "due": None}
        jobs = [shout.job(Line("c"), 2), JobRequest("shout", {"line": {"text": "d"}})]
        handles = await answer(packing.dispatch_batch(jobs))
        results = [(await answer(handle.result(timeout=20)))["text"] for handle in handles]
        assert results == ["CC", "D"]

    async def test_a_result_that_outlived_its_job_is_still_read(self, packing: Any) -> None:
        # With no retention only id and result are kept, not how they were written.
        handle = await answer(packing.dispatch(shout, line=Line("e")))
        assert (await answer(handle.result(timeout=20)))["text"] == "E"
        assert (await answer(packing.get(handle.id))).result["text"] == "E"
        assert (await answer(packing.handle(handle.id).result()))["text"] == "E"

    def test_a_client_without_it_reads_the_result_too(
        self, server: BrokerProcess, client: Client
    ) -> None:
        with Client(server.address, serializer=MsgpackSerializer()) as packing:
            handle = packing.dispatch(shout, line=Line("f"), retention=60)
        assert client.handle(handle.id).result(timeout=20) == {"text": "F", "due": None}

    def test_what_it_cannot_hold_is_refused_by_name(self) -> None:
        with pytest.raises(InvalidPayload, match=r"^x: cannot be written as application/msgpack"):
            write({"number": 2**70}, "x", MsgpackSerializer())

    def test_what_only_messagepack_has_is_read_where_it_is_declared(self) -> None:
        class Upload(Job, registry=Registry()):
            content: bytes
            at: datetime

        definition = Upload.__towline_definition__
        assert definition is not None
        at = datetime(2026, 1, 1, tzinfo=UTC)
        payload = msgpack.packb({"content": b"\x00", "at": at}, datetime=True)
        assert definition.decode(payload, MSGPACK) == Upload(content=b"\x00", at=at)
        packed = definition.encode(Upload(content=b"\x00", at=at), MsgpackSerializer())
        assert definition.decode(*packed) == Upload(content=b"\x00", at=at)

    @pytest.mark.parametrize(
        "data",
        [b"", b"\xc1", b"\x81\x01\x02", b"\x01\x02", b"\x91" * 5000, b"\xd4\x05x"],
    )
    def test_malformed_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(InvalidPayload, match=r"^x: is no valid application/msgpack"):
            read(data, "x", MsgpackSerializer())

    def test_without_the_extra_it_says_which_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "msgpack", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'towline\[msgpack\]'"):
            MsgpackSerializer()

    def test_a_worker_without_the_extra_says_what_is_missing(self) -> None:
        program = (
            "import sys; sys.modules['msgpack'] = None\n"
            "from towline import InvalidPayload, Job\n"
            "class Mail(Job): pass\n"
            "try: Mail.__towline_definition__.decode(b'\\x80', 'application/x-msgpack')\n"
            "except InvalidPayload as error: print(error)\n"
        )
        command = [sys.executable, "-c", program]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        assert ran.stdout == (
            "Mail: the payload is 'application/x-msgpack', expected one of application/json; "
            "MsgpackSerializer needs the extra: pip install 'towline[msgpack]'\n"
        )


class TestResults:
    def test_come_as_a_declared_type(self, client: Client) -> None:
        handle = client.dispatch(shout, line=Line("a", date(2026, 1, 1)))
        assert handle.result(timeout=20, into=Line) == Line("A", date(2026, 1, 1))

    async def test_also_to_a_task(self, server: BrokerProcess, working: None) -> None:
        async with AsyncClient(server.address) as client:
            handle = await client.dispatch(shout, line=Line("a"))
            assert await handle.result(timeout=20, into=Line) == Line("A")

    def test_that_do_not_fit_name_the_place(self, client: Client) -> None:
        handle = client.dispatch(Mixed(failures=[Failure(type="E")]))
        with pytest.raises(InvalidPayload, match=rf"^result of job {handle.id}\[0\]: expected int"):
            handle.result(timeout=20, into=list[int])
        assert handle.result() == [{"type": "E"}]


class TestOwnSerializers:
    def test_a_client_writes_and_a_worker_reads_by_one(self, server: BrokerProcess) -> None:
        with (
            Worker(server.address, ["own"], registry=registry, serializers=[Backwards()]),
            Client(server.address, serializer=Backwards()) as client,
        ):
            handle = client.dispatch(shout, line=Line("a"), queue="own", retention=60)
            assert handle.result(timeout=20) == {"text": "A", "due": None}
            assert handle.status().result_bytes == b'}llun:"eud","A":"txet"{'

    def test_a_worker_without_it_makes_the_job_dead_and_says_what_it_reads(
        self, server: BrokerProcess, working: None
    ) -> None:
        with Client(server.address, serializer=Backwards()) as client:
            handle = client.dispatch(shout, line=Line("a"))
            with pytest.raises(JobFailed) as caught:
                handle.result(timeout=20)
        assert caught.value.failure_type == "InvalidPayload"
        assert caught.value.failure_message.startswith(
            "shout: the payload is 'application/x-backwards', expected one of application/json, "
            "application/msgpack"
        )
        assert "Worker(serializers=[...])" in caught.value.failure_message

    def test_a_job_may_have_its_own(self, server: BrokerProcess, working: None) -> None:
        with Client(server.address, serializer=MsgpackSerializer()) as client:
            handle = client.dispatch(Mirrored(text="abc"), retention=60)
            with pytest.raises(
                InvalidPayload, match="'application/x-backwards', which this client"
            ):
                handle.result(timeout=20)
            assert handle.status().result_bytes == b'"cba"'
        with Client(server.address, serializer=Backwards()) as client:
            assert client.dispatch(Mirrored(text="abc")).result(timeout=20) == "abc"

    def test_of_one_content_type_the_first_is_used(self) -> None:
        class Other(JsonSerializer):
            pass

        other = Other()
        assert Serializers([other]).find("application/json; charset=utf-8") is other
        assert Serializers([other]).find("") is other
        assert isinstance(Serializers().find("application/vnd.x+json"), JsonSerializer)
        assert isinstance(Serializers().find("Application/X-Msgpack"), MsgpackSerializer)
        assert Serializers().find("text/plain") is None

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ("json", "expected a serializer, with content_type, dumps"),
            (JsonSerializer, r"got a class: JsonSerializer\(\)"),
            (None, "expected a serializer"),
            (type("X", (Backwards,), {"content_type": "X/Y; a=b"})(), "must be a media type"),
            (type("X", (Backwards,), {"content_type": 5})(), "expected a serializer"),
        ],
    )
    def test_what_is_none_is_refused_with_the_setting(self, wrong: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=f"^serializer: .*{message}"):
            Client("127.0.0.1:1", serializer=wrong)
        with pytest.raises(ConfigurationError, match=f"^serializers: .*{message}"):
            Worker("127.0.0.1:1", serializers=[wrong])
        if wrong is not None:
            with pytest.raises(InvalidJob, match=f"Mail.serializer: .*{message}"):
                type("Mail", (Job,), {"serializer": wrong})
        with pytest.raises(ConfigurationError, match=r"^serializers: expected a list"):
            Worker("127.0.0.1:1", serializers=MsgpackSerializer())  # type: ignore[arg-type]

    def test_one_that_fails_names_the_field_and_quotes_nothing(self) -> None:
        class Broken(Backwards):
            def dumps(self, value: Any) -> Any:
                return "text"

            def loads(self, data: bytes) -> Any:
                raise RuntimeError(data.decode())

        with pytest.raises(
            InvalidPayload, match=r"^x: dumps\(\) .* returned a str, expected bytes"
        ):
            write("a", "x", Broken())
        with pytest.raises(
            InvalidPayload, match=r"no valid application/x-backwards: RuntimeError$"
        ):
            read(b"hunter2", "x", Broken())


class TestProtobuf:
    def test_a_single_message_is_the_payload_and_comes_back_as_one(self, client: Client) -> None:
        made = job_message(CountFailure(failure=Failure(type="abc")), None, {})
        assert made.content_type == "application/x-protobuf"
        assert Failure.FromString(made.payload) == Failure(type="abc")
        handle = client.dispatch(CountFailure(failure=Failure(type="abc")))
        assert handle.result(timeout=20, into=RetryPolicy) == RetryPolicy(max_attempts=3)
        with pytest.raises(InvalidPayload, match=r"name its class, result\(into=\.\.\.\)"):
            handle.result()

    def test_it_is_dispatched_by_name_as_well(self, client: Client) -> None:
        handle = client.dispatch("failures.count", Failure(type="abcd"))
        assert handle.result(timeout=20, into=RetryPolicy).max_attempts == 4
        assert client.dispatch("failures.count", Failure()).result(timeout=20) is None
        [batched] = client.dispatch_batch([JobRequest("failures.count", Failure(type="a"))])
        assert batched.result(timeout=20, into=RetryPolicy).max_attempts == 1

    def test_whatever_the_serializer_of_the_client(
        self, server: BrokerProcess, working: None
    ) -> None:
        with Client(server.address, serializer=MsgpackSerializer()) as client:
            handle = client.dispatch(CountFailure(failure=Failure(type="ab")))
            assert handle.result(timeout=20, into=RetryPolicy).max_attempts == 2

    def test_its_json_form_is_read_as_well(self, client: Client) -> None:
        handle = client.dispatch("failures.count", {"failure": {"type": "abcde", "later": 1}})
        assert handle.result(timeout=20) == {"max_attempts": 5}

    def test_a_function_takes_one_too(self, client: Client) -> None:
        by_keyword = client.dispatch(no_message_back, failure=Failure(type="a"))
        by_data = client.dispatch(no_message_back, Failure(type="a"))
        for handle in (by_keyword, by_data):
            with pytest.raises(JobFailed, match="returns a message or None, not a str") as caught:
                handle.result(timeout=20)
            assert caught.value.failure_type == "InvalidResult"

    def test_messages_among_other_arguments_are_json(self, client: Client) -> None:
        mixed = Mixed(failures=[Failure(type="E", trace="t")], note="x")
        assert mixed.to_dict() == {"failures": [{"type": "E", "trace": "t"}], "note": "x"}
        assert client.dispatch(mixed).result(timeout=20, into=list[Failure]) == mixed.failures

    @pytest.mark.parametrize(
        ("type", "payload", "message"),
        [
            ("failures.count", b"\xff", "failures.count.failure: is no towline.v1.Failure message"),
            ("shout", b"", "shout: the payload is a protobuf message, but shout has no field"),
        ],
    )
    def test_bytes_that_are_no_such_message_make_the_job_dead(
        self, client: Client, type: str, payload: bytes, message: str
    ) -> None:
        handle = client.push_raw("default", type, payload, content_type="application/protobuf")
        with pytest.raises(JobFailed, match=message):
            handle.result(timeout=20)

    @pytest.mark.parametrize("wrong", [{"type": 5}, [], "x", {"failed_at": "yesterday"}])
    def test_json_that_is_no_such_message_is_refused_with_the_field(self, wrong: Any) -> None:
        definition = registry.lookup("failures.count")
        assert definition is not None
        with pytest.raises(InvalidPayload, match=r"^CountFailure\.failure: ") as caught:
            definition.decode(write({"failure": wrong}, "x"), "application/json")
        assert "yesterday" not in str(caught.value)

    def test_another_message_or_value_is_not_sent(self) -> None:
        with pytest.raises(InvalidPayload, match=r"failure: expected towline\.v1\.Failure, got"):
            job_message(CountFailure(failure=RetryPolicy()), None, {})  # type: ignore[arg-type]


PROGRAM = """
import sys
import towline
from towline.serializers import standard

class Mail(towline.Job):
    to: str

definition = Mail.__towline_definition__
standard()  # what a worker finds out at its start
before = set(sys.modules)
for content_type in ("application/x-pickle", "application/cbor", "application/x-protobuf",
                     "application/x-os", "pickle", "os.path/x"):
    try:
        definition.decode(b"cos\\nsystem\\n(S'true'\\ntR.", content_type)
    except towline.InvalidPayload:
        continue
    raise SystemExit(f"{content_type} was read")
print(sorted(set(sys.modules) - before))
"""


def test_nothing_is_imported_because_a_payload_says_so() -> None:
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == "[]\n"
