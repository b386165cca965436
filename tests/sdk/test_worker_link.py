"""Outages and pauses: told once, and growing within bounds."""

import logging
import time

import pytest

from towline.errors import (
    BrokerError,
    BrokerUnavailable,
    ClientClosed,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TowlineError,
    Unauthenticated,
)
from towline.worker.link import Backoff, Outage, is_final


def test_an_outage_is_told_when_it_begins_and_logged_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "towline.worker")
    told: list[BaseException] = []
    outage = Outage("broker:7480", told.append)
    outage.over(time.monotonic())
    assert not caplog.records
    first, later = BrokerUnavailable("gone"), DeadlineExceeded("gone")
    for _ in range(2):
        outage.met(first, time.monotonic())
        outage.met(later, time.monotonic())
        outage.met(later, time.monotonic())
        outage.over(time.monotonic())
        outage.over(time.monotonic())
    assert told == [first, first]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"] * 2
    assert all("broker:7480" in record.getMessage() for record in caplog.records)


def test_calls_that_were_under_way_when_it_began_or_ended_make_no_second_outage() -> None:
    told: list[BaseException] = []
    outage = Outage("broker:7480", told.append)
    before = time.monotonic()
    outage.met(BrokerUnavailable("gone"), before)
    outage.over(before)  # answered, just before
    lasted = [outage.lasts]
    meanwhile = time.monotonic()
    outage.over(time.monotonic())
    lasted.append(outage.lasts)
    outage.met(DeadlineExceeded("gone"), meanwhile)  # failed, just after
    lasted.append(outage.lasts)
    assert lasted == [True, False, False]
    assert len(told) == 1


def test_pauses_grow_to_five_seconds_and_start_over_after_a_success() -> None:
    backoff = Backoff()
    error = BrokerUnavailable("gone")
    pauses = [backoff.pause(error) for _ in range(60)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(0.05 * 2**n <= pause <= 0.1 * 2**n for n, pause in enumerate(pauses[:5]))
    assert all(2.5 <= pause <= 5 for pause in pauses[10:])
    assert len({round(pause, 6) for pause in pauses[10:]}) > 1, "workers would return together"
    backoff.reset()
    assert backoff.pause(error) <= 0.1


@pytest.mark.parametrize("kind", [BrokerUnavailable, ResourceExhausted])
def test_a_pause_is_no_shorter_than_the_broker_asks_for_within_reason(
    kind: type[BrokerUnavailable] | type[ResourceExhausted],
) -> None:
    assert Backoff().pause(kind("full", retry_after=7)) == 7
    assert Backoff().pause(kind("full", retry_after=86_400)) == 30


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (BrokerUnavailable("gone"), False),
        (DeadlineExceeded("slow", code="DEADLINE_EXCEEDED"), False),
        (ResourceExhausted("full"), False),
        (BrokerError("a defect", code="INTERNAL"), False),
        (BrokerError("some proxy", code="UNKNOWN"), False),
        (BrokerError("gone", code="CANCELLED"), False),
        (BrokerError("not a broker", code="UNIMPLEMENTED"), True),
        (InvalidArgument("wrong"), True),
        (NotFound("wrong", code="NOT_FOUND"), True),
        (Unauthenticated("who?", code="UNAUTHENTICATED"), True),
        (PermissionDenied("no", code="PERMISSION_DENIED"), True),
        (ClientClosed(), True),
    ],
)
def test_what_trying_again_cannot_help_is_final(error: TowlineError, final: bool) -> None:
    assert is_final(error) is final
