"""How the SDK looks to a type checker: read by mypy (make types), never run.

An ``ignore`` marks what must be an error: mypy fails when it is none (warn_unused_ignores).
"""

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any, ClassVar, Self, assert_type

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from towline import (
    AsyncClient,
    AsyncJobHandle,
    BatchFailed,
    BearerToken,
    CancelOutcome,
    Client,
    DeadReason,
    Exponential,
    InvalidArgument,
    Job,
    JobFunction,
    JobHandle,
    JobRequest,
    JobState,
    JobStatus,
    JsonSerializer,
    MsgpackSerializer,
    PreparedJob,
    Registry,
    ResourceExhausted,
    Retry,
    Stats,
    TlsCredentials,
    TowlineError,
    Worker,
    clients,
    current_job,
    job,
    testing,
)
from towline.context import JobContext
from towline.contrib.sqlalchemy import dispatch_on_commit
from towline.middleware import (
    AttemptEnd,
    AttemptOutcome,
    ErrorHook,
    Logging,
    Metrics,
    OutgoingJob,
    RateLimit,
    Tracing,
    UniqueWhileRunning,
)
from towline.v1.job_pb2 import Failure, RetryPolicy


class SendEmail(Job):
    queue = "emails"
    max_attempts = 5
    backoff = [10, 30, 60]  # noqa: RUF012  # as users write it
    timeout = 30
    server: ClassVar[str] = "smtp"
    to: str
    subject: str = "Hello"
    copies: list[str] = field(default_factory=list)

    def unique_key(self) -> str:
        return self.to

    def display_name(self) -> str | None:
        return f"Mail to {self.to}"

    def handle(self) -> int:
        return len(self.to)


class Slow(Job, abstract=True):
    backoff = Exponential(initial=1, maximum=timedelta(hours=1))
    delay = timedelta(minutes=1)
    unique_key = "one"
    display_name = "Slow"
    dead_on = ValueError
    retry_on = (OSError, TimeoutError)
    job_aliases = ("Tardy",)
    serializer = MsgpackSerializer()

    def next_retry_delay(self, attempt: int, error: BaseException) -> float | None:
        return attempt * 2

    def should_retry(self, error: BaseException) -> bool:
        return not isinstance(error, ValueError)


class Report(Slow):
    month: str

    async def handle(self) -> dict[str, int]:
        raise Retry(after=timedelta(seconds=5))

    def to_dict(self) -> dict[str, Any]:
        return {"month": self.month}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return cls(month=data["month"])


@job
def add(a: int, b: int = 2) -> int:
    return a + b


@job(queue="reports", type="report.build", backoff=Exponential(), unique_key=lambda made: made.to)
async def build(month: str) -> list[int]:
    return [len(month)]


@job(
    display_name=lambda made: f"Report {made.month}",
    dead_on=(ValueError, KeyError),
    retry_on=OSError,
    job_aliases=("old",),
    serializer=JsonSerializer(),
    should_retry=lambda error: True,
    next_retry_delay=lambda attempt, error: attempt * 10,
)
def report(month: str) -> None: ...


class CountFailures(Job):
    failure: Failure

    def handle(self) -> RetryPolicy:
        return RetryPolicy(max_attempts=len(self.failure.type))


class Cbor:
    """Somebody's own serializer."""

    content_type = "application/cbor"

    def dumps(self, value: Any) -> bytes:
        return bytes(value)

    def loads(self, data: bytes) -> Any:
        return data


def with_tenant(job_class: type[Any], data: Mapping[str, Any]) -> Job:
    made: Job = job_class.from_dict(data)
    return made


def registries() -> None:
    registry = Registry([SendEmail, add], factory=with_tenant)
    assert_type(registry.register(SendEmail), type[SendEmail])
    assert_type(registry.register(factory=with_tenant)(add)(1), int)
    registry.register(5)  # type: ignore[call-overload]
    Worker("127.0.0.1:7480", registry=registry, serializers=[Cbor(), MsgpackSerializer()])
    Worker("127.0.0.1:7480", serializers=[5])  # type: ignore[list-item]


def serializers() -> None:
    with Client(serializer=Cbor()) as client:
        client.dispatch(CountFailures(failure=Failure()))
        handle = client.dispatch("failures.count", Failure(), delay=5)
        assert_type(handle.result(into=RetryPolicy), RetryPolicy)
        assert_type(handle.result(5, into=SendEmail), SendEmail)
        assert_type(handle.result(into=list[SendEmail]), list[SendEmail])
        handle.result(into=SendEmail | None)
        JobRequest("failures.count", Failure())
    Client(serializer="json")  # type: ignore[arg-type]


def inside() -> None:
    me = current_job()
    me.checkpoint({"row": 5})
    me.checkpoint(b"row 5")
    assert_type(me.display_name, str)
    assert_type(me.is_last_attempt, bool)
    me.progress(0.5, "half")


def fields() -> None:
    mail = SendEmail(to="a", copies=["b"])
    assert_type(mail.to, str)
    assert_type(mail.copies, list[str])
    assert_type(mail.handle(), int)
    SendEmail("a")  # type: ignore[call-arg]
    SendEmail(to=5)  # type: ignore[arg-type]
    SendEmail()  # type: ignore[call-arg]
    SendEmail(to="a", queue="x")  # type: ignore[call-arg]
    Report(month="2026-01")


def functions() -> None:
    assert_type(add(1, b=2), int)
    assert_type(add.job(1, b=2), Job)
    add("1")  # type: ignore[arg-type]
    add.job(c=1)  # type: ignore[call-arg]
    job(que="x")  # type: ignore[call-overload]
    job(retry_on=5)  # type: ignore[call-overload]
    as_declared: JobFunction[[str], Any] = build
    as_declared("2026-01")


async def async_functions() -> None:
    assert_type(await build("2026-01"), list[int])


def sync_client() -> None:
    Client(credentials=TlsCredentials.from_files("ca.pem"), token=BearerToken(file="token"))
    AsyncClient("grpcs://broker:7480", token="text")
    Client(token=5)  # type: ignore[arg-type]
    with Client("127.0.0.1:7480", call_timeout=5) as client:
        assert_type(client, Client)
        handle = client.dispatch(SendEmail(to="a"), delay=300)
        assert_type(handle, JobHandle)
        assert_type(client.dispatch(add, a=1, delay=timedelta(hours=1)), JobHandle)
        assert_type(
            client.dispatch(build.job("2026-01"), at=datetime.now().astimezone()), JobHandle
        )
        assert_type(client.dispatch("x", {"a": 1}, queue="q", headers={"a": "b"}), JobHandle)
        assert_type(client.push_raw("q", "x", b"", content_type="image/png"), JobHandle)
        batch: list[Job | JobRequest] = [SendEmail(to="a"), JobRequest("x", {"a": 1}, priority=2)]
        assert_type(client.dispatch_batch(batch, backoff=[1, 2.5]), list[JobHandle])
        assert_type(client.get("id"), JobStatus)
        assert_type(client.cancel("id", "id"), dict[str, CancelOutcome])
        assert_type(handle.id, str)
        assert_type(handle.created, bool)
        assert_type(handle.status(), JobStatus)
        assert_type(handle.cancel(), CancelOutcome)
        handle.result(timeout=5)

        client.dispatch(SendEmail(to="a"), dealy=5)  # type: ignore[call-overload]
        client.dispatch(SendEmail(to="a"), delay="5")  # type: ignore[call-overload]
        client.dispatch(SendEmail)  # type: ignore[call-overload]
        client.dispatch_batch([5])  # type: ignore[list-item]


async def async_client() -> None:
    async with AsyncClient() as client:
        assert_type(client, AsyncClient)
        handle = await client.dispatch(SendEmail(to="a"), delay=300)
        assert_type(handle, AsyncJobHandle)
        assert_type(await client.dispatch(add, a=1), AsyncJobHandle)
        assert_type(await client.dispatch("x"), AsyncJobHandle)
        assert_type(await client.dispatch_batch([SendEmail(to="a")]), list[AsyncJobHandle])
        assert_type(await handle.status(), JobStatus)
        await handle.result(timeout=timedelta(seconds=5))
        assert_type(await handle.result(into=Report), Report)
        client.dispatch(5)  # type: ignore[call-overload]


def answers(status: JobStatus) -> None:
    assert_type(status.state, JobState)
    assert_type(status.dead_reason, DeadReason | None)
    assert_type(status.finished_at, datetime | None)
    assert_type(status.ended, bool)


def errors(error: TowlineError) -> None:
    match error:
        case InvalidArgument():
            assert_type(error.violations[0].field, str)
        case ResourceExhausted():
            assert_type(error.retry_after, float | None)
        case BatchFailed():
            assert_type(error.stored, Mapping[int, str])
            assert_type(error.errors, Mapping[int, TowlineError])
        case _:
            pass


async def dispatching(client: Client, async_client: AsyncClient) -> None:
    assert_type(SendEmail(to="a").dispatch(delay=5), JobHandle)
    assert_type(await SendEmail(to="a").dispatch_async(), AsyncJobHandle)
    assert_type(add.dispatch(1, b=2), JobHandle)
    add.dispatch("1", b=2)  # type: ignore[arg-type]
    SendEmail(to="a").dispatch(dealy=5)  # type: ignore[call-arg]
    assert_type(clients["reports"], Client)
    assert_type(clients.for_asyncio(), AsyncClient)
    handle, async_handle = client.dispatch("x"), await async_client.dispatch("x")
    assert_type(handle.result(errors=(ValueError, KeyError)), Any)
    assert_type(handle.result(into=int, errors=[ValueError]), int)
    handle.result(errors=("ValueError",))  # type: ignore[arg-type]
    assert_type(client.wait_all([handle], timeout=5), list[JobStatus])
    assert_type(list(handle.watch(interval=1)), list[JobStatus])
    assert_type([status async for status in async_handle.watch()], list[JobStatus])
    assert_type(await async_handle, Any)
    prepared = client.prepare(SendEmail(to="a"), delay=5)
    assert_type(PreparedJob.from_bytes(bytes(prepared)), PreparedJob)
    await async_client.dispatch_batch(job async for job in _jobs())
    client.dispatch_batch(_jobs())  # type: ignore[arg-type]


async def _jobs() -> AsyncIterator[Job]:
    yield SendEmail(to="a")


async def on_commit(
    session: Session, async_session: AsyncSession, client: Client, async_client: AsyncClient
) -> None:
    assert_type(dispatch_on_commit(session, SendEmail(to="a"), client=client), JobHandle)
    assert_type(dispatch_on_commit(async_session, "x", {"a": 1}, delay=5), AsyncJobHandle)
    dispatch_on_commit(session, "x", client=async_client)  # type: ignore[call-overload]
    dispatch_on_commit(async_session, "x", client=client)  # type: ignore[call-overload]


class Timing:
    """Middleware as users write it: any of the three methods."""

    def push(self, jobs: Sequence[OutgoingJob]) -> Iterator[None]:
        assert_type(jobs[0].headers, dict[str, str])
        assert_type(jobs[0].delay, float | None)
        yield

    def handle(self, job: SendEmail, context: JobContext) -> Generator[None, int, int]:
        result = yield
        return result + 1

    def ended(self, end: AttemptEnd) -> None:
        assert_type(end.outcome, AttemptOutcome)
        assert_type(end.error, BaseException | None)


class AsyncTiming:
    async def handle(self, job: Any, context: JobContext) -> AsyncIterator[None]:
        yield


class NotTiming:
    def handel(self) -> None: ...


def around_handler(job: Any, context: JobContext) -> Iterator[None]:
    yield


def around_push(jobs: Sequence[OutgoingJob]) -> Iterator[None]:
    yield


def no_generator(job: Any, context: JobContext) -> int:
    return 1


def middleware() -> None:
    Client(middleware=[Timing(), around_push, Logging(), Tracing(), Metrics()])
    AsyncClient(middleware=[Timing(), around_push])
    Worker(middleware=[Timing(), around_handler, Logging(), Tracing(), Metrics()])
    Worker(pool="async", middleware=[AsyncTiming(), RateLimit(5, per=timedelta(seconds=1))])
    Worker(middleware=[UniqueWhileRunning(key=lambda job: job.to, types=[SendEmail, add, "x"])])
    Worker(middleware=[ErrorHook(lambda error, job, context: error.add_note(context.id))])
    Worker(middleware=[no_generator])  # type: ignore[list-item]
    Worker(middleware=[around_push])  # type: ignore[list-item]
    Worker(middleware=[NotTiming()])  # type: ignore[list-item]
    Client(middleware=[around_handler])  # type: ignore[list-item]
    UniqueWhileRunning(types=[5])  # type: ignore[list-item]
    ErrorHook(no_generator)  # type: ignore[arg-type]


def callbacks(worker: Worker) -> None:
    @worker.on_job_start
    def started(job: SendEmail) -> None: ...

    @worker.on_job_complete
    def completed(job: Any, result: Any) -> int:
        return 1

    @worker.on_job_error
    def failed(job: Any, error: BaseException, traceback: str) -> None: ...

    @worker.on_error
    def errored(error: BaseException) -> None: ...

    assert_type(completed(1, 2), int)
    worker.on_job_complete(started)  # type: ignore[type-var]


async def in_tests(towline: testing.Harness) -> None:
    broker = testing.SyncBroker(delays="refuse", errors="raise", registry=Registry())
    assert_type(Client(broker).stats("emails"), Stats)
    assert_type(await AsyncClient(broker).stats(), Stats)
    assert_type(broker.dead, list[JobStatus])
    assert_type(towline.assert_dispatched(SendEmail, to="a@b.c", delay=5), testing.Dispatched)
    towline.assert_dispatched(add, {"a": 1}, times=2)
    towline.travel(timedelta(hours=1), minutes=5)
    assert_type(towline.worker(middleware=[ErrorHook(print)]).run_all(), list[AttemptEnd])
    assert_type(await towline.worker(["emails"]).run_all_async(delayed=True), list[AttemptEnd])
    with testing.broker("name") as other:
        assert_type(other.client.stats().queues["emails"].pending, int)
    testing.SyncBroker(delays="never")  # type: ignore[arg-type]
    towline.worker(concurrency=5)  # type: ignore[call-arg]
