"""What is dispatched arrives as said: arguments, policy, options, in batches of any size."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from tests.sdk.both_clients import answer, connected
from tests.sdk.scripted_broker import ScriptedBroker, invalid
from towline import (
    AsyncClient,
    BatchFailed,
    Client,
    Exponential,
    InvalidArgument,
    InvalidJob,
    InvalidPayload,
    Job,
    JobRequest,
    PreparedJob,
    QueueFull,
    Registry,
    Violation,
    job,
)
from towline.v1 import errors_pb2, job_pb2

registry = Registry()

FAR_WEST = datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))
"""A moment that is in the year 10000 in UTC."""


class Mail(Job, registry=registry):
    queue = "emails"
    priority = 2
    max_attempts = 5
    backoff = (10, 30)
    jitter = 0.0
    timeout = 30
    delay = 60
    expires_in = 3600
    retention = 120
    unique_for = 10
    to: str

    def unique_key(self) -> str | None:
        return f"mail:{self.to}" if self.to else None


class Plain(Job, registry=registry):
    text: str = ""


class Base(Job, abstract=True):
    pass


@job(queue="reports", registry=registry)
def report(month: str, pages: int = 1) -> None: ...


@job(registry=registry)
def lookup(id: int) -> None: ...


@pytest.fixture(params=[Client, AsyncClient])
async def either(request: pytest.FixtureRequest, broker: ScriptedBroker) -> AsyncIterator[Any]:
    async with connected(request.param, broker.address) as client:
        yield client


def stored(broker: ScriptedBroker, handle: Any) -> job_pb2.Job:
    return broker.jobs[handle.id].job


async def test_a_job_travels_with_its_policy(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(either.dispatch(Mail(to="a")))
    message = stored(broker, handle)
    assert handle.created
    assert UUID(message.id).version == 7
    assert (message.type, message.queue, message.priority) == ("Mail", "emails", 2)
    assert (message.payload, message.content_type) == (b'{"to":"a"}', "application/json")
    assert message.delay.seconds == 60
    assert message.retry.max_attempts == 5
    assert [delay.seconds for delay in message.retry.delays.delays] == [10, 30]
    assert message.retry.HasField("jitter")
    assert message.retry.jitter == 0
    assert message.timeout.seconds == 30
    assert message.expires_in.seconds == 3600
    assert message.retention.seconds == 120
    assert (message.unique_key, message.unique_for.seconds) == ("mail:a", 10)


async def test_a_job_without_policy_leaves_everything_to_the_broker(
    either: Any, broker: ScriptedBroker
) -> None:
    message = stored(broker, await answer(either.dispatch(Plain())))
    assert {field.name for field, _ in message.ListFields()} == {
        "id", "queue", "type", "payload", "content_type",
    }  # fmt: skip
    assert message.queue == "default"


async def test_options_come_before_the_policy(either: Any, broker: ScriptedBroker) -> None:
    job_id = "01890000-0000-7000-8000-000000000001"
    at = datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    handle = await answer(
        either.dispatch(
            Mail(to=""),
            queue="slow",
            at=at,
            priority=-1,
            max_attempts=1,
            backoff=Exponential(initial=0.5, multiplier=3, maximum=timedelta(hours=1)),
            jitter=1,
            timeout=timedelta(milliseconds=1500),
            expires_in=None,
            headers={"trace": "1"},
            id=UUID(job_id),
        )
    )
    message = stored(broker, handle)
    assert handle.id == message.id == job_id
    assert (message.queue, message.priority, message.retry.max_attempts) == ("slow", -1, 1)
    assert not message.HasField("delay")
    assert message.run_at.ToDatetime(UTC) == datetime(2030, 1, 1, tzinfo=UTC)
    exponential = message.retry.exponential
    assert (exponential.initial.nanos, exponential.multiplier) == (500_000_000, 3)
    assert exponential.max.seconds == 3600
    assert message.timeout.ToTimedelta() == timedelta(seconds=1.5)
    assert message.expires_in.seconds == 3600, "None counts as not given"
    assert dict(message.headers) == {"trace": "1"}
    # The job says that it is not unique this time, so the time for which it would be goes too.
    assert not message.unique_key
    assert not message.HasField("unique_for")


async def test_a_delay_given_now_replaces_the_one_of_the_class(
    either: Any, broker: ScriptedBroker
) -> None:
    message = stored(broker, await answer(either.dispatch(Mail(to="a"), delay=0)))
    assert message.HasField("delay")
    assert message.delay.ToTimedelta() == timedelta(0)


async def test_a_type_needs_no_class(either: Any, broker: ScriptedBroker) -> None:
    data = {"to": "a", "at": datetime(2026, 1, 1, tzinfo=UTC)}
    handle = await answer(either.dispatch("billing.invoice", data, queue="emails"))
    message = stored(broker, handle)
    assert (message.type, message.queue) == ("billing.invoice", "emails")
    assert message.payload == b'{"to":"a","at":"2026-01-01T00:00:00+00:00"}'
    assert stored(broker, await answer(either.dispatch("x"))).payload == b"{}"


async def test_by_its_name_a_job_has_nothing_of_its_class(
    either: Any, broker: ScriptedBroker
) -> None:
    """Whatever the process that dispatches it happens to have imported."""

    class KnownHere(Job):
        queue = "emails"
        max_attempts = 9
        retention = 60
        to: str

    assert KnownHere.job_type == "KnownHere"
    message = stored(broker, await answer(either.dispatch("KnownHere", {"too": 1})))
    assert (message.queue, message.payload) == ("default", b'{"too":1}')
    assert not message.HasField("retry")
    assert not message.HasField("retention")


async def test_a_function_is_dispatched_with_its_arguments(
    either: Any, broker: ScriptedBroker
) -> None:
    for handle in (
        await answer(either.dispatch(report, month="2026-01", delay=5)),
        await answer(either.dispatch(report.job("2026-01"), delay=5)),
        await answer(either.dispatch(report, {"month": "2026-01"}, delay=5)),
    ):
        message = stored(broker, handle)
        assert (message.type, message.queue) == ("report", "reports")
        assert message.payload == b'{"month":"2026-01","pages":1}'
        assert message.delay.seconds == 5


async def test_an_argument_called_like_an_option_is_not_guessed(
    either: Any, broker: ScriptedBroker
) -> None:
    with pytest.raises(InvalidJob, match=r"write dispatch\(lookup.job\(id=\.\.\.\)\)"):
        await answer(either.dispatch(lookup, id=5))
    handle = await answer(either.dispatch(lookup.job(id=5)))
    assert stored(broker, handle).payload == b'{"id":5}'


async def test_raw_bytes_travel_as_they_are(either: Any, broker: ScriptedBroker) -> None:
    handle = await answer(
        either.push_raw("images", "resize", b"\x00\xff", content_type="image/png", priority=1)
    )
    message = stored(broker, handle)
    assert (message.queue, message.type, message.priority) == ("images", "resize", 1)
    assert (message.payload, message.content_type) == (b"\x00\xff", "image/png")


class TestPreparedJobs:
    async def test_they_are_what_would_have_been_pushed(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        prepared = either.prepare(Mail(to="a"), priority=7)
        assert broker.calls == []
        handle = await answer(either.dispatch(prepared))
        assert (handle.id, handle.created) == (prepared.id, True)
        message = stored(broker, handle)
        assert (message.queue, message.priority, message.payload) == ("emails", 7, b'{"to":"a"}')
        again = await answer(either.dispatch(prepared))
        assert (again.id, again.created) == (prepared.id, False)

    async def test_they_can_be_kept_as_bytes(self, either: Any, broker: ScriptedBroker) -> None:
        rows = [bytes(either.prepare(report, month=f"2026-{n:02}", delay=5)) for n in range(1, 13)]
        jobs = [PreparedJob.from_bytes(row) for row in rows]
        handles = await answer(either.dispatch_batch(jobs))
        assert [handle.id for handle in handles] == [job.id for job in jobs]
        assert stored(broker, handles[11]).payload == b'{"month":"2026-12","pages":1}'
        assert stored(broker, handles[0]).delay.seconds == 5

    @pytest.mark.parametrize("wrong", [b"", b"\xff", b"{}", None, "text"])
    def test_other_bytes_are_refused(self, wrong: Any) -> None:
        with pytest.raises(InvalidJob, match=r"expected what bytes\(\) of a PreparedJob gave"):
            PreparedJob.from_bytes(wrong)

    async def test_they_have_their_options_already(self, either: Any) -> None:
        with pytest.raises(InvalidJob, match="takes no options: they were given to prepare"):
            await answer(either.dispatch(either.prepare("x"), delay=5))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Plain(),), {"dealy": 5}, "Plain: there is no option 'dealy'; there are queue, delay, at"),
        ((Plain(),), {"delay": -1}, "Plain.delay: expected seconds >= 0"),
        ((Plain(),), {"delay": 1, "at": datetime.now(UTC)}, "Plain: delay and at cannot both"),
        ((Plain(),), {"at": datetime(2026, 1, 1)}, "Plain.at: "),  # noqa: DTZ001  # the point
        ((Plain(),), {"at": 5}, "Plain.at: expected a datetime, got 5"),
        ((Plain(),), {"headers": {"a": 1}}, "Plain.headers: expected strings, got 'a': int"),
        ((Plain(),), {"headers": "a"}, "Plain.headers: expected a mapping"),
        ((Plain(),), {"id": "5"}, "Plain.id: expected a UUID, got '5'"),
        ((Plain(),), {"unique_key": ""}, "Plain.unique_key: expected a string"),
        ((Plain(),), {"unique_key": str}, "Plain.unique_key: expected a string, got a function"),
        (("x",), {"unique_key": str}, "x.unique_key: expected a string, got a function"),
        ((Plain(),), {"unique_key": "\ud800"}, "Plain.unique_key: is no text"),
        ((Plain(),), {"headers": {"a": "\ud800"}}, "Plain.headers['a']: is no text"),
        ((Plain(),), {"at": FAR_WEST}, "Plain.at: datetime.datetime(9999, 12, 31, 23, 0"),
        ((Plain(), {}), {}, "data goes with the name of a type"),
        ((Plain,), {}, "Plain is a class: dispatch an instance, Plain(...)"),
        ((Base(),), {}, "Base is abstract: it cannot be dispatched"),
        ((5,), {}, "expected a Job, a function with @job or the name of a type, got a int"),
        (("a b",), {}, "type: expected a name"),
        (("",), {}, "type: expected a name"),
        (("x", [1]), {}, "x: the data must be a dict with strings as keys"),
        (("x", {1: 1}), {}, "x: the data must be a dict with strings as keys"),
        ((report, [1]), {}, "report: the data must be a dict with strings as keys"),
        ((report,), {"year": 1}, "report: missing a required argument: 'month'"),
    ],
)
async def test_an_impossible_dispatch_is_refused_here(
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    message: str,
    either: Any,
    broker: ScriptedBroker,
) -> None:
    with pytest.raises(InvalidJob) as caught:
        await answer(either.dispatch(*arguments, **options))
    assert str(caught.value).startswith(message)
    assert broker.calls == []


async def test_arguments_that_do_not_fit_are_refused_here(
    either: Any, broker: ScriptedBroker
) -> None:
    with pytest.raises(InvalidPayload, match=r"^Plain\.text: expected str, got 5$"):
        await answer(either.dispatch(Plain(text=5)))  # type: ignore[arg-type]
    with pytest.raises(
        InvalidPayload, match=r"^x\.a: values of type object cannot be written as JSON$"
    ):
        await answer(either.dispatch("x", {"a": object()}))
    with pytest.raises(InvalidJob, match="the payload must be bytes, got a str"):
        await answer(either.push_raw("q", "x", "text"))
    with pytest.raises(InvalidJob, match="the content_type must be a string, got 5"):
        await answer(either.push_raw("q", "x", b"", content_type=5))
    assert broker.calls == []


@pytest.mark.parametrize("wrong", ["Mail", b"Mail", None, Plain()])
async def test_what_is_no_list_of_jobs_is_refused(
    wrong: Any, either: Any, broker: ScriptedBroker
) -> None:
    with pytest.raises(InvalidJob, match=r"^dispatch_batch: expected a list of jobs, got a "):
        await answer(either.dispatch_batch(wrong))
    assert broker.calls == []


async def test_options_of_an_empty_batch_are_checked_too(either: Any) -> None:
    with pytest.raises(InvalidJob, match=r"^dispatch_batch: there is no option 'quue'"):
        await answer(either.dispatch_batch([], quue="x"))


async def test_the_same_id_again_makes_no_second_job(either: Any, broker: ScriptedBroker) -> None:
    job_id = "01890000-0000-7000-8000-000000000001"
    first = await answer(either.dispatch(Plain(), id=job_id))
    second = await answer(either.dispatch(Plain(), id=job_id))
    assert (first.id, first.created) == (job_id, True)
    assert (second.id, second.created) == (job_id, False)


class TestBatches:
    async def test_handles_come_in_the_order_of_the_jobs(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        jobs = [
            Plain(text="0"),
            JobRequest("x", {"n": 1}, queue="own", priority=7),
            JobRequest(Mail(to="2"), delay=1),
        ]
        handles = await answer(either.dispatch_batch(iter(jobs), queue="all", delay=9))
        messages = [stored(broker, handle) for handle in handles]
        assert [message.type for message in messages] == ["Plain", "x", "Mail"]
        assert [message.queue for message in messages] == ["all", "own", "all"]
        assert [message.delay.seconds for message in messages] == [9, 9, 1]
        assert len(broker.called("Push")) == 1

    async def test_what_a_request_says_comes_before_what_the_batch_says(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        at = datetime(2030, 1, 1, tzinfo=UTC)
        jobs = [JobRequest("x", at=at), JobRequest("x", delay=None, priority=None), Plain()]
        handles = await answer(either.dispatch_batch(jobs, delay=9, priority=1))
        first, second, third = (stored(broker, handle) for handle in handles)
        assert first.run_at.ToDatetime(UTC) == at
        assert [second.delay.seconds, third.delay.seconds] == [9, 9]
        assert [message.priority for message in (first, second, third)] == [1, 1, 1]
        with pytest.raises(InvalidJob, match="x: delay and at cannot both be given"):
            await answer(either.dispatch_batch([JobRequest("x", at=at, delay=1)], delay=2))

    async def test_no_jobs_make_no_call(self, either: Any, broker: ScriptedBroker) -> None:
        assert await answer(either.dispatch_batch([])) == []
        assert broker.calls == []

    @pytest.mark.parametrize(("count", "calls"), [(1000, [1000]), (2001, [1000, 1000, 1])])
    async def test_a_call_holds_a_thousand_jobs(
        self, count: int, calls: list[int], either: Any, broker: ScriptedBroker
    ) -> None:
        handles = await answer(either.dispatch_batch(Plain(text=str(n)) for n in range(count)))
        assert [len(request.jobs) for request in broker.called("Push")] == calls
        assert [stored(broker, handle).payload for handle in handles] == [
            b'{"text":"%d"}' % n for n in range(count)
        ]

    async def test_a_call_stays_below_what_servers_take_by_default(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        large = [Plain(text="x" * 1_000_000) for _ in range(10)]
        await answer(either.dispatch_batch(large))
        requests = broker.called("Push")
        assert sum(len(request.jobs) for request in requests) == 10
        assert all(request.ByteSize() < 4 * 1024 * 1024 for request in requests)
        assert len(requests) == 4

    async def test_a_job_larger_than_that_travels_alone(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        jobs = [Plain(), Plain(text="x" * 5_000_000), Plain()]
        await answer(either.dispatch_batch(jobs))
        assert [len(request.jobs) for request in broker.called("Push")] == [1, 1, 1]

    async def test_one_wrong_job_keeps_all_of_them_here(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        with pytest.raises(InvalidPayload) as caught:
            await answer(either.dispatch_batch([Plain(), Plain(text=5)]))  # type: ignore[arg-type]
        assert caught.value.__notes__ == ["This was job 1 of the batch; none of it was sent."]
        assert broker.calls == []

    async def test_one_id_is_not_for_many_jobs(self, either: Any) -> None:
        with pytest.raises(InvalidJob, match="id names one job"):
            await answer(either.dispatch_batch([], id="01890000-0000-7000-8000-000000000001"))

    async def test_a_refused_first_call_is_told_as_it_is(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        broker.failures["Push"] = [invalid(("jobs[1].queue", "too long"))]
        with pytest.raises(InvalidArgument) as caught:
            await answer(either.dispatch_batch([Plain(), Plain()]))
        assert caught.value.violations == (Violation("jobs[1].queue", "too long"),)

    async def test_a_refused_later_call_tells_what_is_stored_and_what_not(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        pushed = 0

        def fail_the_second(message: job_pb2.Job) -> None:
            nonlocal pushed
            pushed += 1
            if pushed == 1000:
                broker.failures["Push"] = [invalid(("jobs[7].payload", "too large"))]

        broker.reject = fail_the_second
        with pytest.raises(BatchFailed) as caught:
            await answer(either.dispatch_batch([Plain() for _ in range(2500)]))
        failed = caught.value
        assert sorted(failed.stored) == list(range(1000))
        assert set(failed.stored.values()) == set(broker.jobs)
        assert sorted(failed.errors) == list(range(1000, 2500))
        assert str(failed.errors[1000]) == "jobs[1007].payload: too large"
        assert str(failed).startswith("1500 of 2500 jobs of the batch were not stored; the first")
        assert len(broker.called("Push")) == 2, "nothing is sent after a failure"

    async def test_partly_stored_batches_name_each_refused_job(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        def full(message: job_pb2.Job) -> errors_pb2.ItemError | None:
            refused = message.queue == "full"
            error = errors_pb2.ItemError(code=8, reason="QUEUE_FULL", message="is full")
            return error if refused else None

        broker.reject = full
        jobs = [JobRequest("x", queue=["free", "full"][n % 2]) for n in range(4)]
        with pytest.raises(BatchFailed) as caught:
            await answer(either.dispatch_batch(jobs, allow_partial=True))
        assert broker.called("Push")[0].allow_partial
        assert sorted(caught.value.stored) == [0, 2]
        assert {place: type(error) for place, error in caught.value.errors.items()} == {
            1: QueueFull,
            3: QueueFull,
        }

    async def test_a_refused_job_is_named_by_its_place_in_the_whole_batch(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        def wrong(message: job_pb2.Job) -> errors_pb2.ItemError | None:
            error = errors_pb2.ItemError(code=3, field="jobs[5].queue", message="too long")
            return error if message.queue == "long" else None

        broker.reject = wrong
        jobs = [JobRequest("x", queue="long" if n == 1005 else "short") for n in range(1010)]
        with pytest.raises(BatchFailed, match=r"job 1005: jobs\[1005\]\.queue: too long"):
            await answer(either.dispatch_batch(jobs, allow_partial=True))

    async def test_a_generator_is_sent_while_it_is_read(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        stored_when_read = []

        def jobs() -> Iterator[Job]:
            for n in range(2500):
                stored_when_read.append(len(broker.jobs))
                yield Plain(text=str(n))

        handles = await answer(either.dispatch_batch(jobs()))
        assert [stored(broker, handle).payload for handle in handles] == [
            b'{"text":"%d"}' % n for n in range(2500)
        ]
        assert stored_when_read[1001] == 1000, "no more than a call's worth is kept here"
        assert stored_when_read[2499] == 2000

    async def test_a_generator_is_not_read_on_after_a_failure(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        read = 0

        def jobs() -> Iterator[Job]:
            nonlocal read
            for read in range(1, 5001):
                if read == 1500:
                    broker.failures["Push"] = [invalid(("jobs[7].payload", "too large"))]
                yield Plain()

        with pytest.raises(BatchFailed) as caught:
            await answer(either.dispatch_batch(jobs()))
        assert sorted(caught.value.stored) == list(range(1000))
        assert sorted(caught.value.errors) == list(range(1000, 2000))
        assert str(caught.value.errors[1000]) == "jobs[1007].payload: too large"
        assert read == 2001

    async def test_a_wrong_job_of_a_generator_leaves_those_before_it_stored(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        jobs = (Plain(text=5 if n == 1200 else str(n)) for n in range(5000))  # type: ignore[arg-type]
        with pytest.raises(
            BatchFailed, match=r"job 1200: Plain\.text: expected str, got 5"
        ) as caught:
            await answer(either.dispatch_batch(jobs))
        assert sorted(caught.value.stored) == list(range(1200))
        assert set(caught.value.stored.values()) == set(broker.jobs)
        assert list(caught.value.errors) == [1200]

    async def test_what_a_generator_raises_tells_how_many_are_stored(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        def jobs() -> Iterator[Job]:
            yield from (Plain() for _ in range(1500))
            raise OSError("the file ended early")

        with pytest.raises(OSError, match="ended early") as caught:
            await answer(either.dispatch_batch(jobs()))
        assert caught.value.__notes__ == ["1000 jobs of the batch had been stored before."]
        assert len(broker.jobs) == 1000

    async def test_refused_jobs_of_a_generator_do_not_stop_it_when_allowed(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        error = errors_pb2.ItemError(code=8, reason="QUEUE_FULL", message="is full")
        broker.reject = lambda message: error if message.queue == "full" else None
        jobs = (JobRequest("x", queue="full" if n % 1000 == 7 else "free") for n in range(2100))
        with pytest.raises(BatchFailed) as caught:
            await answer(either.dispatch_batch(jobs, allow_partial=True))
        assert sorted(caught.value.errors) == [7, 1007, 2007]
        assert len(caught.value.stored) == len(broker.jobs) == 2097

    async def test_an_async_generator_serves_async_clients(self, broker: ScriptedBroker) -> None:
        async def jobs() -> AsyncIterator[Job]:
            for n in range(1500):
                yield Plain(text=str(n))

        async with AsyncClient(broker.address) as client:
            handles = await client.dispatch_batch(jobs())
        assert [handle.id for handle in handles] == list(broker.jobs)
        assert [len(request.jobs) for request in broker.called("Push")] == [1000, 500]

    async def test_an_answer_that_makes_no_sense_is_not_taken_for_success(
        self, either: Any, broker: ScriptedBroker
    ) -> None:
        broker.answers_short = True
        with pytest.raises(Exception, match="answered with 0 results for 1 jobs"):
            await answer(either.dispatch(Plain()))


async def test_many_threads_and_tasks_may_share_a_client(broker: ScriptedBroker) -> None:
    with Client(broker.address) as client:
        await asyncio.gather(
            *(asyncio.to_thread(client.dispatch, Plain(text=str(n))) for n in range(50))
        )
    async with AsyncClient(broker.address) as async_client:
        await asyncio.gather(*(async_client.dispatch(Plain(text=str(n))) for n in range(50)))
    assert len(broker.jobs) == 100
