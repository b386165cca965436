"""The current job: known in its handler only, and strict about what it is told."""

import math
import threading
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from towline.context import CancelReason, JobContext, NoCurrentJob, current_job, running
from towline.errors import InvalidJob, InvalidPayload, TowlineError


@pytest.fixture
def context() -> JobContext:
    return JobContext(id="1", queue="emails", type="SendEmail", lease_token="secret")


def test_outside_a_handler_there_is_none() -> None:
    with pytest.raises(NoCurrentJob, match="works inside a handler"):
        current_job()
    assert issubclass(NoCurrentJob, TowlineError)


def test_inside_it_is_at_hand_and_afterwards_no_more(context: JobContext) -> None:
    with running(context):
        assert current_job() is context
    with pytest.raises(NoCurrentJob):
        current_job()


def test_a_thread_of_its_own_has_none(context: JobContext) -> None:
    raised: list[BaseException] = []

    def look() -> None:
        try:
            current_job()
        except NoCurrentJob as error:
            raised.append(error)

    with running(context):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert raised


def test_it_shows_no_token(context: JobContext) -> None:
    assert "secret" not in repr(context)
    assert "secret" not in str(context)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, math.inf, "x", None])
def test_a_fraction_is_from_0_to_1(context: JobContext, fraction: Any) -> None:
    with pytest.raises(InvalidJob, match="progress: fraction must be a number from 0 to 1, got"):
        context.progress(fraction)


def test_a_progress_message_is_a_string(context: JobContext) -> None:
    with pytest.raises(InvalidJob, match="progress: message must be a str, got int"):
        context.progress(0.1, 5)  # type: ignore[arg-type]


def test_a_checkpoint_has_at_most_64_kib(context: JobContext) -> None:
    context.checkpoint(b"x" * 64 * 1024)
    with pytest.raises(InvalidJob, match="65537 bytes"):
        context.checkpoint(b"x" * (64 * 1024 + 1))
    with pytest.raises(InvalidJob, match="65537 bytes"):
        context.checkpoint("x" * (64 * 1024 - 1))


def left(context: JobContext) -> JobContext:
    """The next attempt, with the notes that the first one left."""
    unsent = context.state.reports.unsent()
    assert unsent is not None
    return replace(context, attempt=2, last_progress=unsent[1])


def test_a_checkpoint_is_any_json_for_the_next_attempt(context: JobContext) -> None:
    assert context.last_checkpoint is None
    context.checkpoint({"row": 7, "day": date(2026, 1, 1)})
    context.progress(0.5)
    assert left(context).last_checkpoint == {"row": 7, "day": "2026-01-01"}
    with pytest.raises(
        InvalidPayload, match=r"^checkpoint\.x: values of type object cannot be written as JSON"
    ):
        context.checkpoint({"x": object()})
    assert left(context).last_checkpoint == {"row": 7, "day": "2026-01-01"}


def test_a_checkpoint_of_bytes_stays_bytes(context: JobContext) -> None:
    context.checkpoint(b"\xff\x00")
    progress = left(context).last_progress
    assert progress is not None
    assert progress.checkpoint == b"\xff\x00"
    with pytest.raises(InvalidPayload, match="last_checkpoint: is no valid JSON"):
        _ = left(context).last_checkpoint


def test_it_knows_whether_it_is_the_last_attempt() -> None:
    job = JobContext(id="1", queue="q", type="T", attempt=2, max_attempts=3)
    assert not job.is_last_attempt
    assert replace(job, attempt=3).is_last_attempt


def test_its_display_name_is_one_short_line_whoever_made_the_header(context: JobContext) -> None:
    assert context.display_name == "SendEmail"
    assert str(context) == "job 1 (SendEmail, attempt 1)"
    header = {"towline-display-name": "Welcome\n\x1b[31m  to " + "x" * 200}
    named = replace(context, headers=header)
    assert named.display_name == f"Welcome [31m to {'x' * 112}"
    assert str(replace(context, headers={"towline-display-name": "Mail to Ann"})) == (
        'job 1 "Mail to Ann" (SendEmail, attempt 1)'
    )
    assert named.logger.extra is not None
    assert named.logger.extra["job_display_name"] == named.display_name


def test_it_is_cancelled_once_and_the_first_reason_holds(context: JobContext) -> None:
    assert not context.wait_cancelled(0)
    assert context.state.cancellation.cancel(CancelReason.TIMEOUT)
    assert not context.state.cancellation.cancel(CancelReason.LEASE_LOST)
    assert context.cancelled
    assert context.wait_cancelled(0)
    assert context.cancel_reason is CancelReason.TIMEOUT


def test_a_handler_that_has_ended_is_not_cancelled(context: JobContext) -> None:
    assert context.state.cancellation.close() is None
    assert not context.state.cancellation.cancel(CancelReason.TIMEOUT)
    assert not context.cancelled


def test_who_listens_hears_of_a_cancellation_before_and_during_but_not_after(
    context: JobContext,
) -> None:
    heard: list[str] = []
    cancellation = context.state.cancellation
    with cancellation.listening(lambda: heard.append("before")):
        pass
    with cancellation.listening(lambda: heard.append("during")):
        cancellation.cancel(CancelReason.STOPPING)
    with cancellation.listening(lambda: heard.append("late")):
        pass
    assert heard == ["during", "late"]


def test_without_limits_nothing_remains_to_be_counted(context: JobContext) -> None:
    assert context.remaining is None
    assert context.deadline is None
    assert context.lease_remaining is None
    assert not context.possibly_lost
