"""towline.testing: assertions that explain, runs that are deterministic, time travel (T1)."""

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from towline import (
    AsyncClient,
    Client,
    Job,
    JobRequest,
    JobState,
    MsgpackSerializer,
    NotFound,
    Registry,
    Reject,
    Release,
    Retry,
    TlsCredentials,
    Worker,
    clients,
    current_job,
    job,
    testing,
)
from towline.context import JobContext
from towline.middleware import AttemptOutcome, OutgoingJob
from towline.testing import Harness, JobsFailed

registry = Registry()
ran: list[Any] = []


class SendEmail(Job, registry=registry):
    queue = "emails"
    backoff = [10, 30]  # noqa: RUF012  # policy of jobs is written so
    to: str
    subject: str = "Hello"

    def handle(self) -> str:
        ran.append(self.to)
        if "@" not in self.to:
            raise ValueError(f"no address: {self.to}")
        return f"sent to {self.to}"


@job(registry=registry)
def note(what: Any) -> Any:
    ran.append(what)
    return what


@job(registry=registry)
async def note_async(what: Any) -> Any:
    await asyncio.sleep(0)
    ran.append(what)
    return what


@job(registry=registry, max_attempts=2, backoff=5)
def end(how: str, again: str = "") -> None:
    ends = {"retry": Retry(60), "reject": Reject("bad"), "release": Release(after=60)}
    if current_job().attempt == 1 or again:
        raise ends.get(how, RuntimeError(how))


@pytest.fixture
def towline() -> Iterator[Harness]:
    ran.clear()
    with testing.broker("testing", registry=registry) as harness:
        yield harness


class TestDispatched:
    def test_jobs_are_listed_typed_and_in_order(self, towline: Harness) -> None:
        towline.client.dispatch(SendEmail(to="a@b.c"), delay=300, headers={"tenant": "7"})
        towline.client.dispatch(note, what=[1])
        towline.client.dispatch("billing.invoice", {"number": 7}, priority=5, unique_key="7")

        email, noted, invoice = towline.dispatched
        assert email.job == SendEmail(to="a@b.c")
        assert (email.queue, email.delay, email.headers) == (
            "emails",
            timedelta(minutes=5),
            {"tenant": "7"},
        )
        assert noted.data == {"what": [1]}
        assert noted.job.what == [1]
        assert (invoice.job, invoice.data) == (None, {"number": 7})
        assert (invoice.type, invoice.priority, invoice.unique_key) == ("billing.invoice", 5, "7")

    def test_a_time_is_told_as_a_delay(self, towline: Harness) -> None:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        towline.client.dispatch(note, {"what": 1}, at=tomorrow)

        assert abs(towline.dispatched[0].delay - timedelta(days=1)) < timedelta(minutes=1)

    def test_what_was_not_stored_is_not_listed(self, towline: Harness) -> None:
        for _ in range(2):
            towline.client.dispatch(note, {"what": 1}, unique_key="one")

        assert len(towline.dispatched) == 1

    async def test_every_client_of_the_address_is_heard(self, towline: Harness) -> None:
        with Client() as by_environment, Client(towline.address) as by_port:
            by_environment.dispatch(note, what=1)
            by_port.dispatch(note, what=2)
        async with AsyncClient(towline.url) as client:
            await client.dispatch_batch([note.job(what=3)])
        await towline.async_client.dispatch(note, what=4)

        assert [each.job.what for each in towline.dispatched] == [1, 2, 3, 4]


class TestAssertDispatched:
    def test_reads_messagepack_and_knows_display_names(self, towline: Harness) -> None:
        with Client(towline.url, serializer=MsgpackSerializer()) as packing:
            packing.dispatch("billing.invoice", {"number": 7}, display_name="Invoice 7")

        towline.assert_dispatched("billing.invoice", number=7, display_name="Invoice 7")
        with pytest.raises(AssertionError, match="display_name"):
            towline.assert_dispatched("billing.invoice", display_name="Invoice 8")

    def test_finds_by_type_arguments_and_options(self, towline: Harness) -> None:
        towline.client.dispatch(
            SendEmail(to="a@b.c"),
            delay=300,
            headers={"tenant": "7", "trace": "x"},
            max_attempts=9,
            expires_in=3600,
        )

        found = towline.assert_dispatched(
            SendEmail,
            to="a@b.c",
            queue="emails",
            delay=300,
            priority=0,
            headers={"tenant": "7"},
            max_attempts=9,
            expires_in=timedelta(hours=1),
            unique_key=None,
            timeout=None,
        )
        assert found is not None
        assert found.job.subject == "Hello"
        towline.assert_dispatched(SendEmail(to="a@b.c"), delay=timedelta(minutes=5))
        towline.assert_dispatched("SendEmail", {"to": "a@b.c"}, times=1)
        towline.assert_dispatched(SendEmail, to=mock.ANY, subject=lambda text: text > "H")

    def test_counts(self, towline: Harness) -> None:
        for n in range(3):
            towline.client.dispatch(note, what=n)

        towline.assert_dispatched(note, times=3)
        towline.assert_dispatched(note, what=2, times=1)
        with pytest.raises(AssertionError, match="note was dispatched 3 times, and not once"):
            towline.assert_dispatched(note, times=1)

    def test_shows_what_was_dispatched_instead(self, towline: Harness) -> None:
        towline.client.dispatch(SendEmail(to="a@b.c"), delay=300)
        towline.client.dispatch("other", {"x": 1})

        with pytest.raises(AssertionError) as raised:
            towline.assert_dispatched("SendEmail", to="d@e.f", delay=10, cc="x")

        assert str(raised.value).splitlines() == [
            "SendEmail(to='d@e.f', delay=10, cc='x') was dispatched never.",
            "Dispatched were:",
            "  SendEmail(to='a@b.c', subject='Hello')  in queue 'emails', delay 0:05:00",
            "    to: expected 'd@e.f', is 'a@b.c'",
            "    delay: expected 10, is 300",
            "    has no cc",
            "  other {'x': 1}  in queue 'default'",
        ]

    def test_says_when_there_was_nothing(self, towline: Harness) -> None:
        with pytest.raises(AssertionError, match=r"never\.\nNothing was dispatched\."):
            towline.assert_dispatched(SendEmail)

    def test_tells_what_it_can_be_asked_for(self, towline: Harness) -> None:
        with pytest.raises(TypeError, match="expected a Job class"):
            towline.assert_dispatched(print)

    @pytest.mark.parametrize("sent", [SendEmail, SendEmail(to="a@b.c")])
    def test_a_misspelled_name_is_not_taken_for_a_job_that_is_not_there(
        self, towline: Harness, sent: Any
    ) -> None:
        with pytest.raises(TypeError, match=r"no field .too.; .* is subject, to, queue,"):
            towline.assert_not_dispatched(sent, too="a@b.c")
        with pytest.raises(TypeError, match="SendEmail has no field 'dely'"):
            towline.assert_dispatched(sent, dely=5)
        with pytest.raises(TypeError, match="SendEmail has no field 'queue'"):
            towline.assert_not_dispatched(sent, {"queue": "emails"})
        with pytest.raises(TypeError, match="note has no field 'wat'"):
            towline.assert_not_dispatched(note, wat=1)
        towline.assert_not_dispatched(sent, to="a@b.c", queue="emails", id=str)

    def test_not_dispatched_fails_with_what_was(self, towline: Harness) -> None:
        towline.assert_nothing_dispatched()
        towline.client.dispatch(SendEmail(to="a@b.c"))

        towline.assert_not_dispatched(note)
        towline.assert_not_dispatched(SendEmail, to="other@b.c")
        with pytest.raises(AssertionError, match=r"was dispatched once\.\n.*\n  SendEmail"):
            towline.assert_not_dispatched(SendEmail)
        with pytest.raises(AssertionError, match="Nothing was to be dispatched"):
            towline.assert_nothing_dispatched()


class TestRunAll:
    def test_runs_here_and_now_with_what_jobs_dispatch(self, towline: Harness) -> None:
        threads = []

        @job(registry=registry, queue="other")
        def parent() -> None:
            threads.append(threading.get_ident())
            Client().dispatch(SendEmail(to="a@b.c"))

        handle = towline.client.dispatch(parent)

        ends = towline.worker().run_all()

        assert threads == [threading.get_ident()]
        assert ran == ["a@b.c"]
        assert [(each.context.type, each.outcome) for each in ends] == [
            ("parent", AttemptOutcome.SUCCEEDED),
            ("SendEmail", AttemptOutcome.SUCCEEDED),
        ]
        assert handle.status().state is JobState.SUCCEEDED
        assert towline.worker().run_all() == []

    def test_keeps_to_the_order_of_the_broker(self, towline: Harness) -> None:
        towline.client.dispatch_batch(
            [
                JobRequest(note.job(what="first")),
                JobRequest(note.job(what="urgent"), priority=1),
                JobRequest(note_async.job(what="second")),
            ]
        )
        towline.worker().run_all()

        assert ran == ["urgent", "first", "second"]

    def test_reports_a_handler_that_raised(self, towline: Harness) -> None:
        towline.client.dispatch(SendEmail(to="nobody"))
        towline.client.dispatch(note, what="runs all the same")

        with pytest.raises(JobsFailed) as raised:
            towline.worker().run_all()

        assert str(raised.value).splitlines() == [
            "1 job failed:",
            "  SendEmail(to='nobody', subject='Hello'), attempt 1, retried: "
            "ValueError: no address: nobody",
        ]
        assert isinstance(raised.value.__cause__, ValueError)
        assert ran == ["runs all the same", "nobody"]

    def test_leaves_out_what_a_handler_asked_for(self, towline: Harness) -> None:
        towline.client.dispatch(end, how="retry")
        towline.client.dispatch(end, how="release")
        ends = towline.worker().run_all()
        assert [each.outcome for each in ends] == ["retried", "released"]

        towline.client.dispatch(end, how="reject")
        with pytest.raises(JobsFailed, match="dead: Reject: bad"):
            towline.worker().run_all()

    def test_can_leave_the_judging_to_the_test(self, towline: Harness) -> None:
        towline.client.dispatch(end, how="boom", again="yes")

        [first] = towline.worker().run_all(check=False)
        assert (first.outcome, str(first.error)) == (AttemptOutcome.RETRIED, "boom")

    def test_runs_retries_and_delays_too_if_asked_to(self, towline: Harness) -> None:
        towline.client.dispatch(end, how="fails once")
        towline.client.dispatch(note, {"what": "later"}, delay=86_400)
        began = towline.now

        ends = towline.worker().run_all(delayed=True)

        assert [(each.context.type, each.context.attempt) for each in ends] == [
            ("end", 1),
            ("end", 2),
            ("note", 1),
        ]
        assert timedelta(days=1) <= towline.now - began < timedelta(days=1, minutes=1)
        assert towline.pending() == 0

    def test_a_type_that_is_unknown_here_is_reported(self, towline: Harness) -> None:
        towline.client.dispatch("billing.invoice", {})

        with pytest.raises(JobsFailed, match="knows no job type 'billing"):
            towline.worker().run_all()
        assert towline.pending("default") == 1

    def test_only_of_the_queues_that_are_named(self, towline: Harness) -> None:
        towline.client.dispatch("billing.invoice", {}, queue="billing")
        towline.client.dispatch(note, what=1)

        towline.worker(["default"]).run_all()

        assert ran == [1]
        assert towline.pending("billing") == 1

    def test_jobs_without_an_end_are_told_of(
        self, towline: Harness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("towline.testing.worker.MAX_ATTEMPTS", 20)

        @job(registry=registry)
        def again() -> None:
            Client().dispatch(again)

        towline.client.dispatch(again)

        with pytest.raises(AssertionError, match="without an end"):
            towline.worker().run_all()

    def test_one_by_one(self, towline: Harness) -> None:
        towline.client.dispatch_batch([note.job(what=n) for n in range(2)])
        worker = towline.worker()

        assert worker.run_one() is not None
        assert ran == [0]
        assert worker.run_one() is not None
        assert worker.run_one() is None

    async def test_in_the_loop_of_an_async_test(self, towline: Harness) -> None:
        loops = []

        @job(registry=registry)
        async def which_loop() -> None:
            loops.append(asyncio.get_running_loop())

        await towline.async_client.dispatch(which_loop)
        await towline.async_client.dispatch(note, what="plain")

        await towline.worker().run_all_async()

        assert loops == [asyncio.get_running_loop()]
        assert ran == ["plain"]

    async def test_one_by_one_in_the_loop_of_an_async_test(self, towline: Harness) -> None:
        await towline.async_client.dispatch_batch([note_async.job(what=n) for n in (1, 2)])
        worker = towline.worker()
        for expected in ([1], [1, 2]):
            end = await worker.run_one_async()
            assert end is not None
            assert end.outcome is AttemptOutcome.SUCCEEDED
            assert ran == expected
        assert await worker.run_one_async() is None

    async def test_an_async_handler_that_is_not_awaited_says_how_to(self, towline: Harness) -> None:
        towline.client.dispatch(note_async, what=1)

        with pytest.raises(JobsFailed, match="run_all_async"):
            towline.worker().run_all()

    def test_with_middleware_and_callbacks(self, towline: Harness) -> None:
        def around(job: Any, context: JobContext) -> Iterator[None]:
            ran.append(f"before {context.type}")
            yield

        worker = towline.worker(
            middleware=[around], on_job_complete=lambda job, result: ran.append(f"got {result}")
        )
        towline.client.dispatch(note, what=1)
        worker.run_all()

        assert ran == ["before note", 1, "got 1"]

    def test_progress_is_told_and_kept_for_the_next_attempt(self, towline: Harness) -> None:
        @job(registry=registry, retention=60)
        def in_steps() -> None:
            me = current_job()
            ran.append(me.last_progress.checkpoint if me.last_progress else b"")
            me.progress(0.5, "half")
            me.checkpoint(b"notes")
            ran.append(Client().get(me.id).progress)
            if me.attempt == 1:
                raise Retry

        towline.client.dispatch(in_steps)
        towline.worker().run_all(delayed=True)

        assert ran[0] == b""
        assert ran[1].message == "half"
        assert ran[2] == b"notes"

    def test_a_job_that_is_cancelled_meanwhile_is_lost(self, towline: Harness) -> None:
        @job(registry=registry)
        def cancelled() -> None:
            Client().cancel(current_job().id)

        towline.client.dispatch(cancelled)

        [only] = towline.worker().run_all()
        assert only.outcome is AttemptOutcome.LOST


class TestTime:
    def test_a_delay_is_over_when_the_clock_says_so(self, towline: Harness) -> None:
        towline.client.dispatch(note, {"what": 1}, delay=300)
        worker = towline.worker()

        towline.travel(minutes=4, seconds=30)
        assert worker.run_all() == []
        towline.travel(timedelta(seconds=30))
        worker.run_all()

        assert ran == [1]

    def test_backoff_is_exactly_that_of_the_policy(self, towline: Harness) -> None:
        """With the jitter of a real broker nobody could travel by just the backoff."""
        towline.client.dispatch(SendEmail(to="nobody"), max_attempts=3)
        worker = towline.worker()

        for expected, seconds in ((1, 10), (2, 30), (3, 0)):
            assert [each.context.attempt for each in worker.run_all(check=False)] == [expected]
            towline.travel(seconds=seconds)

        [dead] = towline.dead
        assert dead.failure is not None
        assert dead.failure.message == "no address: nobody"

    def test_a_moment_can_be_travelled_to(self, towline: Harness) -> None:
        moment = datetime.now(UTC) + timedelta(days=2)
        towline.client.dispatch(note, {"what": 1}, at=moment)

        towline.travel_to(moment)
        towline.worker().run_all()

        assert ran == [1]

    @pytest.mark.parametrize("seconds", [0.0, 4e9])
    def test_the_clock_of_the_test_may_be_set_as_well(
        self, towline: Harness, seconds: float
    ) -> None:
        with mock.patch("time.time", return_value=seconds):
            towline.client.dispatch(SendEmail(to="a@b.c"), delay=300)
            towline.travel(minutes=5)
            [end] = towline.worker().run_all()
            with towline.worker().background():
                handle = towline.client.dispatch(SendEmail(to="a@b.c"))
                assert handle.result(timeout=10) == "sent to a@b.c"

            async def later() -> None:
                await towline.async_client.dispatch(SendEmail(to="a@b.c"))
                await towline.worker().run_all_async()

            asyncio.run(later())
        assert end.outcome is AttemptOutcome.SUCCEEDED

    def test_never_back(self, towline: Harness) -> None:
        with pytest.raises(ValueError, match="is the past"):
            towline.travel(seconds=-1)
        with pytest.raises(ValueError, match="is the past"):
            towline.travel_to(datetime.now(UTC) - timedelta(days=1))
        with pytest.raises(ValueError, match="no time zone"):
            towline.travel_to(datetime(2030, 1, 1))  # noqa: DTZ001  # that is the mistake

    def test_to_the_next_job_that_waits(self, towline: Harness) -> None:
        assert not towline.travel_to_next()
        towline.client.dispatch(note, {"what": "late"}, delay=600)
        towline.client.dispatch(note, {"what": "soon"}, delay=60)

        assert towline.travel_to_next()
        towline.worker().run_all()

        assert ran == ["soon"]


def test_the_worker_can_be_a_real_one_in_the_background(towline: Harness) -> None:
    with towline.worker().background(concurrency=2) as worker:
        assert isinstance(worker, Worker)
        email = towline.client.dispatch(SendEmail(to="a@b.c"))
        assert email.result(timeout=20) == "sent to a@b.c"
        assert towline.client.dispatch(note, what=5).result(timeout=20) == 5


def test_depths_and_dead_letters_can_be_asserted(towline: Harness) -> None:
    assert (towline.pending(), towline.queues(), towline.dead) == (0, [], [])

    towline.client.dispatch(note, {"what": 1}, delay=60)
    towline.client.dispatch(end, how="reject")
    assert (towline.pending(), towline.pending("default"), towline.pending("emails")) == (2, 2, 0)
    towline.worker().run_all(check=False)

    assert towline.pending() == 1
    assert [status.type for status in towline.dead] == ["end"]
    assert towline.queues() == ["default"]


async def test_statistics_can_be_asserted(towline: Harness) -> None:
    towline.client.dispatch(SendEmail(to="nobody"), max_attempts=2)
    towline.client.dispatch_batch([note.job(what=1), note.job(what=2)], delay=60)
    await towline.worker().run_all_async(check=False)

    stats = towline.client.stats()
    emails, total = stats.queues["emails"], stats.total
    assert (emails.pushed, emails.started, emails.failed, emails.retried) == (1, 1, 1, 1)
    assert (emails.failure_rate, emails.processing.count) == (1.0, 1)
    assert (emails.pending, emails.scheduled, emails.is_empty) == (1, 1, False)
    assert (total.pushed, total.pending, total.dead) == (3, 3, 0)
    assert stats.types["note"].scheduled == 2
    assert (stats.driver, stats.durability) == ("memory", "NONE")

    towline.travel(minutes=1)
    assert towline.client.stats("default").total.ready == 2
    await towline.worker().run_all_async(check=False)

    total = (await towline.async_client.stats()).total
    assert (total.completed, total.dead, total.dead_lettered, total.is_empty) == (2, 1, 1, True)
    assert total.success_rate == 0.5
    with pytest.raises(NotFound, match="slow"):
        towline.client.stats("slow")


def test_each_broker_starts_empty_and_nothing_is_left_behind() -> None:
    before = dict(os.environ)
    with testing.broker("testing", registry=registry) as towline:
        assert os.environ["TOWLINE_URL"] == "memory://testing"
        job_id = towline.client.dispatch(note, {"what": 1}, delay=60).id
        towline.travel(days=300)
    assert dict(os.environ) == before

    with testing.broker("testing", registry=registry) as towline:
        assert (towline.dispatched, towline.queues()) == ([], [])
        assert abs(towline.now - datetime.now(UTC)) < timedelta(minutes=1)
        with pytest.raises(NotFound):
            towline.client.get(job_id)


def test_a_client_that_was_made_before_reaches_the_broker_of_each_test() -> None:
    with Client("memory://testing") as of_the_application:
        for n in range(3):
            with testing.broker("testing", registry=registry) as towline:
                of_the_application.dispatch(note, what=n)
                assert [each.job.what for each in towline.dispatched] == [n]


def test_the_default_client_reaches_it_with_its_own_middleware() -> None:
    def stamp(jobs: Sequence[OutgoingJob]) -> Iterator[None]:
        for each in jobs:
            each.headers["tenant"] = "7"
        yield

    clients.add("default", "127.0.0.1:1", middleware=[stamp], credentials=TlsCredentials())
    try:
        with testing.broker("testing", registry=registry) as towline:
            SendEmail(to="a@b.c").dispatch(delay=5)
            towline.assert_dispatched(SendEmail, delay=5, headers={"tenant": "7"})
    finally:
        clients.add("default")
