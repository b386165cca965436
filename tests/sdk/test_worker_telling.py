"""``on_error`` is told what goes wrong in a worker, and nothing there waits for it."""

import logging
import threading

import pytest

from tests.sdk.running import fake_broker, happens, working
from towline.context import current_job
from towline.errors import JobCancelled, LeaseLost
from towline.jobs import job
from towline.registry import Registry
from towline.v1.queue_service_pb2 import LeaseOutcome
from towline.worker import UnknownJobType
from towline.worker.telling import MAX_WAITING, Teller


def test_an_on_error_that_takes_its_time_costs_no_lease_and_no_outcome() -> None:
    asked, go_on, told = threading.Event(), threading.Event(), list[BaseException]()

    @job(type="long", registry=(own := Registry()))
    def long() -> None:
        while not current_job().wait_cancelled(0.01) and not go_on.is_set():
            pass

    def slow(error: BaseException) -> None:
        asked.set()
        happens(go_on)
        told.append(error)

    with fake_broker() as broker, working(broker, own, lease=1, on_error=slow) as worker:
        lost, kept = broker.add("long"), broker.add("long")
        broker.wait_for(lambda: broker.is_leased(lost) and broker.is_leased(kept))
        broker.set_outcome(lost, LeaseOutcome.LEASE_OUTCOME_NOT_FOUND)
        happens(asked)
        beats = broker.heartbeats_of(kept)
        broker.wait_for(lambda: broker.heartbeats_of(kept) >= beats + 3)
        broker.nack(broker.add("unknown"))
        broker.set_outcome(kept, LeaseOutcome.LEASE_OUTCOME_CANCELLED)
        broker.wait_for(lambda: not worker.stats.lost < 2)
        assert not told
        go_on.set()
        worker.stop()
    # All of it is told before the worker has stopped, in the order in which it happened.
    assert [type(error) for error in told] == [LeaseLost, UnknownJobType, JobCancelled]


def test_what_waits_to_be_told_is_bounded_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on, told = threading.Event(), list[BaseException]()

    def slow(error: BaseException) -> None:
        happens(go_on)
        told.append(error)

    teller = Teller(slow)
    errors = [ValueError(str(number)) for number in range(MAX_WAITING + 5)]
    with caplog.at_level(logging.ERROR, "towline.worker"):
        for error in errors:
            teller.tell(error)
    assert len(caplog.records) == 5
    teller.start()
    go_on.set()
    teller.close(timeout=20)
    assert told == errors[:MAX_WAITING]
