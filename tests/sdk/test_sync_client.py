"""sync:// runs each job where it is dispatched, and loses and hides nothing (S1, T1)."""

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.sdk.both_clients import answer, connected
from towline import (
    AsyncClient,
    BatchFailed,
    CancelOutcome,
    Client,
    ClientClosed,
    ConfigurationError,
    InvalidArgument,
    InvalidPayload,
    Job,
    JobFailed,
    JobRequest,
    JobState,
    NotFound,
    NotSupported,
    Registry,
    Release,
    ResultTimeout,
    Worker,
    current_job,
    job,
)
from towline.context import JobContext
from towline.testing import SyncBroker
from towline.transport.sync import ledger
from towline.worker import UnknownJobType

registry = Registry()
ran: list[Any] = []

both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@pytest.fixture
def broker() -> SyncBroker:
    return SyncBroker(registry=registry)


@pytest.fixture
def client(broker: SyncBroker) -> Iterator[Client]:
    with Client(broker) as client:
        yield client


@job(registry=registry)
def note(what: Any) -> Any:
    ran.append(what)
    return what


@job(registry=registry)
async def note_async(what: Any) -> Any:
    await asyncio.sleep(0)
    ran.append(what)
    return what


@job(registry=registry, max_attempts=2)
def fail() -> None:
    ran.append(current_job().attempt)
    raise ZeroDivisionError("by nothing")


@job(registry=registry)
def where_am_i() -> int:
    return threading.get_ident()


@both
async def test_the_job_has_ended_when_dispatch_returns(kind: Any, broker: SyncBroker) -> None:
    async with connected(kind, broker) as client:
        handle = await answer(client.dispatch(note, what="mail"))

        assert ran == ["mail"]
        assert await answer(handle.result()) == "mail"
        assert (await answer(handle.status())).state is JobState.SUCCEEDED


@both
async def test_jobs_run_in_the_thread_that_dispatches_them(kind: Any, broker: SyncBroker) -> None:
    before = threading.active_count()
    async with connected(kind, broker) as client:
        handle = await answer(client.dispatch(where_am_i))
        assert await answer(handle.result()) == threading.get_ident()
    assert threading.active_count() == before


async def test_an_async_handler_runs_in_the_loop_of_an_async_client(broker: SyncBroker) -> None:
    loops = []

    @job(registry=registry)
    async def which_loop() -> None:
        loops.append(asyncio.get_running_loop())

    async with AsyncClient(broker) as client:
        await client.dispatch(which_loop)

    assert loops == [asyncio.get_running_loop()]


async def test_a_plain_client_says_that_it_cannot_run_async_handlers_in_a_loop(
    broker: SyncBroker,
) -> None:
    with (
        Client(broker) as client,
        pytest.raises(ConfigurationError, match="note_async: an async handler cannot"),
    ):
        client.dispatch(note_async, what=1)
    assert not broker.jobs


def test_every_job_of_a_batch_runs_in_order(client: Client) -> None:
    client.dispatch_batch([note.job(what=1), note_async.job(what=2), note.job(what=3)])

    assert ran == [1, 2, 3]


def test_a_dead_job_can_be_looked_at(broker: SyncBroker, client: Client) -> None:
    handle = client.dispatch(fail)
    client.dispatch(note, what=1)

    assert ran == [1, 2, 1]
    [dead] = broker.dead
    assert dead.id == handle.id
    assert dead.failure is not None
    assert (dead.failure.type, dead.failure.message) == ("ZeroDivisionError", "by nothing")
    assert "raise ZeroDivisionError" in dead.failure.trace
    assert "towline/worker" not in dead.failure.trace
    with pytest.raises(JobFailed, match="ZeroDivisionError: by nothing"):
        handle.result()


@both
async def test_statistics_can_be_asserted(kind: Any, broker: SyncBroker) -> None:
    async with connected(kind, broker) as client:
        await answer(client.dispatch(fail, {}, queue="slow"))
        await answer(client.dispatch(note, what=1))
        stats = await answer(client.stats())
        slow = (await answer(client.stats("slow"))).total

        assert (stats.total.pushed, stats.total.completed, stats.total.is_empty) == (2, 1, True)
        assert (slow.started, slow.failed, slow.retried, slow.dead) == (2, 2, 1, 1)
        assert list(stats.types) == ["fail", "note"]
        with pytest.raises(NotFound, match="nowhere"):
            await answer(client.stats("nowhere"))


def test_a_payload_that_cannot_travel_is_refused(broker: SyncBroker, client: Client) -> None:
    with pytest.raises(InvalidPayload, match="what: values of type object cannot be written"):
        client.dispatch(note, what=object())
    with pytest.raises(InvalidArgument, match=r"^payload: has"):
        client.dispatch(note, what="x" * (1 << 20))
    with pytest.raises(InvalidArgument, match=r"^headers: has"):
        client.dispatch(note, {"what": 1}, headers={"a": "x" * 8192})
    assert not ran
    assert not broker.jobs


def test_the_job_is_what_a_worker_would_get_and_not_the_object_itself(client: Client) -> None:
    given = {1: ("a", "b")}

    assert client.dispatch(note, what=given).result() == {"1": ["a", "b"]}
    assert ran == [{"1": ["a", "b"]}]


def test_a_batch_is_stored_as_a_whole_or_in_part_as_it_says(client: Client) -> None:
    jobs = [note.job(what=1), note.job(what="x" * (1 << 20)), note.job(what=3)]

    with pytest.raises(InvalidArgument, match=r"jobs\[1\].payload"):
        client.dispatch_batch(jobs)
    assert ran == []

    with pytest.raises(BatchFailed) as failed:
        client.dispatch_batch(jobs, allow_partial=True)
    assert ran == [1, 3]
    assert list(failed.value.errors) == [1]


class TestDelays:
    def test_are_passed_over_by_default(self, client: Client) -> None:
        began = time.monotonic()

        client.dispatch(note, {"what": 1}, delay=3600)

        assert ran == [1]
        assert time.monotonic() - began < 60

    def test_can_be_refused(self) -> None:
        client = Client(SyncBroker(delays="refuse", registry=registry))

        with pytest.raises(NotSupported, match="note is dispatched with a delay"):
            client.dispatch(note, {"what": 1}, delay=3600)
        client.dispatch(note, {"what": 2}, delay=0)

        assert ran == [2]

    def test_are_refused_one_by_one_in_a_batch_that_may_be_stored_in_part(self) -> None:
        client = Client(SyncBroker(delays="refuse", registry=registry))

        with pytest.raises(BatchFailed) as failed:
            client.dispatch_batch(
                [JobRequest(note.job(what=1), delay=5), note.job(what=2)], allow_partial=True
            )

        assert ran == [2]
        assert isinstance(failed.value.errors[0], NotSupported)

    @both
    async def test_can_be_slept_and_backoff_with_them(self, kind: Any) -> None:
        broker = SyncBroker(delays="sleep", registry=registry)
        async with connected(kind, broker) as client:
            began = time.monotonic()
            handle = await answer(client.dispatch(fail, delay=0.03, backoff=0.05))

        assert time.monotonic() - began >= 0.08
        assert broker.delays_of(handle.id) == [0.03, 0.05]

    def test_are_said_in_the_address(self) -> None:
        with pytest.raises(NotSupported):
            Client("sync://?delays=refuse").dispatch("Some", {}, delay=1)


class TestErrors:
    def test_can_be_raised_where_the_job_was_dispatched(self) -> None:
        client = Client(SyncBroker(errors="raise", registry=registry))

        with pytest.raises(ZeroDivisionError, match="by nothing"):
            client.dispatch(fail)

        assert ran == [1, 2]

    def test_of_jobs_that_jobs_dispatch_are_raised_when_all_is_done(self) -> None:
        client = Client(SyncBroker(errors="raise", registry=registry))

        @job(registry=registry)
        def parent() -> None:
            client.dispatch(fail)
            ran.append("parent is done")

        with pytest.raises(ZeroDivisionError):
            client.dispatch(parent)

        assert ran == [1, 2, "parent is done"]

    def test_of_a_payload_that_does_not_fit_are_raised(self) -> None:
        client = Client(SyncBroker(errors="raise", registry=registry))

        with pytest.raises(InvalidPayload, match="what: is missing"):
            client.dispatch("note", {})

    def test_a_job_that_expired_is_raised_as_such(self) -> None:
        client = Client(SyncBroker(errors="raise", registry=registry))

        with pytest.raises(JobFailed, match="EXPIRED"):
            client.dispatch(note, {"what": 1}, delay=10, expires_in=5)

    async def test_can_be_raised_by_an_async_client(self) -> None:
        client = AsyncClient(SyncBroker(errors="raise", registry=registry))

        with pytest.raises(ZeroDivisionError):
            await client.dispatch(fail)


class TestJobsThatDispatchJobs:
    @both
    async def test_run_them_before_they_go_on(self, kind: Any, broker: SyncBroker) -> None:
        async with connected(kind, broker) as client:

            @job(registry=registry)
            async def parent() -> str:
                child = await answer(client.dispatch(note, what="child"))
                ran.append("parent")
                return f"{await answer(child.result())} of {current_job().type}"

            if kind is Client:  # an async handler runs in a loop, in which no other can be run
                handle = await asyncio.to_thread(client.dispatch, parent)
            else:
                handle = await client.dispatch(parent)

            assert ran == ["child", "parent"]
            assert await answer(handle.result()) == "child of parent"

    def test_without_an_end_are_told_so(self, broker: SyncBroker, client: Client) -> None:
        @job(registry=registry)
        def next_run(n: int) -> None:
            client.dispatch(next_run, {"n": n + 1}, delay=86_400)

        client.dispatch(next_run, n=1)

        [dead] = broker.dead
        assert dead.failure is not None
        assert "without an end" in dead.failure.message

    def test_do_not_mix_up_the_current_job(self, client: Client) -> None:
        @job(registry=registry)
        def child() -> str:
            return current_job().type

        @job(registry=registry)
        def parent() -> list[str]:
            return [client.dispatch(child).result(), current_job().type]

        assert client.dispatch(parent).result() == ["child", "parent"]


class TestUniqueKeys:
    def test_are_held_while_the_job_runs(self, client: Client) -> None:
        @job(registry=registry, unique_key="nightly")
        def unique() -> bool:
            return client.dispatch(unique).created

        first, second = client.dispatch(unique), client.dispatch(unique)

        assert first.created
        assert second.created
        assert first.id != second.id
        assert first.result() is second.result() is False

    def test_are_held_for_as_long_as_they_say(self, client: Client) -> None:
        first = client.dispatch(note, {"what": 1}, unique_key="k", unique_for=60)
        again = client.dispatch(note, {"what": 2}, unique_key="k", unique_for=60)

        assert not again.created
        assert again.id == first.id
        assert ran == [1]

    def test_an_id_is_stored_once(self, client: Client) -> None:
        first = client.dispatch(note, what=1)

        assert not client.dispatch(note, {"what": 2}, id=first.id).created
        assert ran == [1]


class TestWhatNothingHereRuns:
    def test_stays_ready_and_is_told_to_on_error(self) -> None:
        errors: list[BaseException] = []
        client = Client(SyncBroker(registry=Registry(), on_error=errors.append))

        handle = client.dispatch("billing.invoice", {})

        assert handle.status().state is JobState.READY
        assert isinstance(errors[0], UnknownJobType)

    @both
    async def test_is_not_waited_for(self, kind: Any) -> None:
        async with connected(kind, SyncBroker(registry=Registry())) as client:
            handle = await answer(client.dispatch("billing.invoice", {}))

            with pytest.raises(ResultTimeout, match="READY") as raised:
                await answer(handle.result())

        assert "nothing here can run it" in raised.value.__notes__[0]

    def test_a_handler_that_waits_for_its_own_job_is_told_so(self, client: Client) -> None:
        @job(registry=registry)
        def wait_for_myself() -> None:
            client.wait(current_job().id)

        handle = client.dispatch(wait_for_myself)

        with pytest.raises(JobFailed, match="ResultTimeout"):
            handle.result()


def test_a_job_that_is_always_released_ends_in_its_queue(client: Client) -> None:
    @job(registry=registry)
    def never() -> None:
        ran.append(1)
        raise Release(after=5)

    status = client.dispatch(never).status()

    assert status.state is JobState.SCHEDULED
    assert (status.attempt, status.releases) == (0, len(ran))


@both
async def test_a_job_can_be_cancelled_while_it_runs(kind: Any, broker: SyncBroker) -> None:
    async with connected(kind, broker) as client:

        @job(registry=registry)
        async def cancel_myself() -> None:
            me = current_job()
            ran.append(await answer(client.cancel(me.id)))
            ran.append(me.cancelled)
            await asyncio.sleep(60)

        if kind is Client:
            handle = await asyncio.to_thread(client.dispatch, cancel_myself)
        else:
            handle = await client.dispatch(cancel_myself)

        assert ran == [{handle.id: CancelOutcome.CANCELLED}, True]
        assert (await answer(handle.status())).state is JobState.CANCELLED
        assert await answer(handle.cancel()) is CancelOutcome.CANCELLED


def test_progress_can_be_seen_while_the_job_runs(client: Client) -> None:
    @job(registry=registry)
    def half_way() -> None:
        current_job().progress(0.5, "half")
        ran.append(client.get(current_job().id).progress)

    client.dispatch(half_way)

    assert (ran[0].fraction, ran[0].message) == (0.5, "half")


def test_another_thread_can_wait_for_a_job(client: Client) -> None:
    started, go_on = threading.Event(), threading.Event()
    ids: list[str] = []

    @job(registry=registry)
    def slow() -> str:
        ids.append(current_job().id)
        started.set()
        assert go_on.wait(20)
        return "slow"

    thread = threading.Thread(target=lambda: client.dispatch(slow))
    thread.start()
    assert started.wait(20)
    with pytest.raises(ResultTimeout, match="LEASED"):
        client.wait(ids[0], timeout=0.02)
    go_on.set()

    assert client.wait(ids[0], timeout=20).result == "slow"
    thread.join()


def test_threads_share_a_client_and_each_runs_its_own_jobs(
    broker: SyncBroker, client: Client
) -> None:
    def dispatch(n: int) -> bool:
        return client.dispatch(note, {"what": n}, unique_key=str(n // 2), unique_for=60).created

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(dispatch, range(400)))

    assert sum(created) == 200
    assert sorted(n // 2 for n in ran) == list(range(200))
    assert {status.state for status in broker.jobs} == {JobState.SUCCEEDED}
    assert client.stats().total.completed == 200


async def test_tasks_share_an_async_client(broker: SyncBroker) -> None:
    async with AsyncClient(broker) as client:
        handles = await asyncio.gather(*(client.dispatch(note_async, what=n) for n in range(50)))
        assert [await handle.result() for handle in handles] == list(range(50))


async def test_an_async_client_that_is_cancelled_cancels_the_handler(broker: SyncBroker) -> None:
    began = asyncio.Event()

    @job(registry=registry)
    async def endless() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ran.append("told")

    async with AsyncClient(broker) as client:
        task = asyncio.create_task(client.dispatch(endless))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert ran == ["told"]
    assert broker.jobs[0].state is JobState.READY
    assert broker.jobs[0].attempt == 0


def test_what_is_meant_for_pytest_gets_through(broker: SyncBroker, client: Client) -> None:
    @job(registry=registry)
    def assertion() -> None:
        pytest.fail("seen by the test")

    with pytest.raises(pytest.fail.Exception, match="seen by the test"):
        client.dispatch(assertion)
    with pytest.raises(KeyboardInterrupt):
        client.dispatch(interrupt)

    assert [status.attempt for status in broker.jobs] == [1, 1]


@job(registry=registry)
def interrupt() -> None:
    raise KeyboardInterrupt


def test_callbacks_and_middleware_run_as_in_a_worker() -> None:
    def around(job: Any, context: JobContext) -> Iterator[None]:
        ran.append(f"before {context.type}")
        yield
        ran.append("after")

    client = Client(
        SyncBroker(
            registry=registry,
            middleware=[around],
            on_job_start=lambda job: ran.append("start"),
            on_job_complete=lambda job, result: ran.append(f"complete {result}"),
            on_job_error=lambda job, error, trace: ran.append(f"error {error}"),
        )
    )
    client.dispatch(note, what="it")
    assert ran == ["start", "before note", "it", "after", "complete it"]

    ran.clear()
    client.dispatch(fail, max_attempts=1)
    assert ran == ["start", "before fail", 1, "error by nothing"]


async def test_async_middleware_runs_with_an_async_client_and_is_refused_by_a_plain_one() -> None:
    async def around(job: Any, context: JobContext) -> Any:
        await asyncio.sleep(0)
        ran.append("before")
        yield
        ran.append("after")

    broker = SyncBroker(registry=registry, middleware=[around])
    with pytest.raises(ConfigurationError, match="async generator"):
        Client(broker)
    async with AsyncClient(broker) as client:
        await client.dispatch(note, what=1)
        await client.dispatch(note_async, what=2)

    assert ran == ["before", 1, "after", "before", 2, "after"]


def test_a_context_variable_does_not_leak_out_of_a_handler(client: Client) -> None:
    variable = contextvars.ContextVar("variable", default="outside")

    @job(registry=registry)
    def leaky() -> None:
        variable.set("inside")

    client.dispatch(leaky)

    assert variable.get() == "outside"


def test_old_jobs_are_forgotten(broker: SyncBroker, client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(ledger, "MAX_JOBS", 3)
    handles = [client.dispatch(note, {"what": n}, unique_key=str(n)) for n in range(5)]

    assert [status.id for status in broker.jobs] == [handle.id for handle in handles[2:]]
    with pytest.raises(NotFound):
        handles[0].status()


@both
async def test_a_closed_client_says_so(kind: Any, broker: SyncBroker) -> None:
    async with connected(kind, broker) as client:
        handle = await answer(client.dispatch(note, what=1))
    for call in (lambda: client.dispatch(note, what=1), handle.status, handle.cancel):
        with pytest.raises(ClientClosed):
            await answer(call())


@both
@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("sync://somewhere", "expected sync://"),
        ("sync://?delay=refuse", "has the options delays and errors, got 'delay'"),
        ("sync://?delays=never", "delays: expected one of skip, sleep, refuse, got 'never'"),
        ("sync://?errors=", "errors: expected one of keep, raise, got ''"),
    ],
)
def test_a_wrong_address_is_refused_with_the_way_out(kind: Any, address: str, error: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        kind(address)
    assert error in str(refused.value)


def test_the_environment_can_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_URL", "sync://")

    assert Client().dispatch(NoRegistry(number=1)).result() == 2


class NoRegistry(Job):
    job_type = "tests.sync.NoRegistry"
    number: int

    def handle(self) -> int:
        return self.number + 1


def test_it_needs_no_worker_and_says_so() -> None:
    with pytest.raises(ConfigurationError, match="nothing for a worker to do"):
        Worker("sync://")
    with pytest.raises(ConfigurationError, match="runs without a server"):
        Worker(Client("sync://"))
