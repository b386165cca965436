"""Work that comes again, and work that is spread over time: a delay and a key are enough."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from towline import Client, Job, JobRequest, Registry, testing
from towline.testing import Harness

registry = Registry()


class Report(Job, registry=registry):
    """A report of every hour, each of which dispatches the next."""

    max_attempts = 2
    backoff = 1
    number: int
    fails: bool = False

    def unique_key(self) -> str:
        # Each run has a key of its own: that of this run is held until this run has ended.
        return f"report-{self.number}"

    def handle(self) -> None:
        # First the next run, so that it comes whatever becomes of this one.
        Report(number=self.number + 1).dispatch(delay=3600)
        if self.fails:
            raise ConnectionError("no data")


@pytest.fixture
def towline() -> Iterator[Harness]:
    with testing.broker(registry=registry) as harness:
        yield harness


def test_a_job_that_dispatches_its_next_run_goes_on_for_ever(towline: Harness) -> None:
    began = towline.now
    Report(number=1).dispatch()
    worker = towline.worker(registry=registry)
    for _ in range(24):
        worker.run_one()
        towline.travel_to_next()
    assert timedelta(hours=24) <= towline.now - began < timedelta(hours=24, minutes=1)
    assert [each.job.number for each in towline.dispatched] == list(range(1, 26))
    assert towline.pending() == 1


def test_a_run_that_fails_and_is_tried_again_has_one_next_run(towline: Harness) -> None:
    Report(number=1, fails=True).dispatch()
    worker = towline.worker(registry=registry)
    worker.run_one(check=False)
    towline.travel(seconds=1)
    worker.run_one(check=False)
    assert [each.attempt for each in towline.dead] == [2]
    towline.assert_dispatched(Report, number=2, delay=3600, times=1)
    assert towline.pending() == 1


def test_calls_are_spread_over_time_by_their_delays(towline: Harness) -> None:
    client: Client = towline.client
    client.dispatch_batch(JobRequest("Call", {"n": n}, delay=n * 60) for n in range(10))
    for minute in range(10):
        [queue] = client.stats().queues.values()
        assert (queue.ready, queue.scheduled) == (minute + 1, 9 - minute)
        towline.travel(minutes=1)
