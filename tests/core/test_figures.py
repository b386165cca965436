"""What operators are shown: figures, queues, workers."""

from random import Random

import pytest

from tests.core.factories import job, reserve
from tests.core.manual_clock import ManualClock
from towline_broker.core.broker import Broker
from towline_broker.core.calls import (
    AckCall,
    Directive,
    HeartbeatItem,
    LeaseOutcome,
    NackCall,
    Release,
)
from towline_broker.core.settings import CoreSettings
from towline_broker.core.statistics import Histogram
from towline_broker.domain.errors import QueueNotFound, WorkerNotFound
from towline_broker.domain.time import MINUTE, SECOND


async def test_figures_follow_a_job_through_its_life(broker: Broker, clock: ManualClock) -> None:
    await broker.jobs.push([job(), job(), job("other", delay=MINUTE)])
    await clock.advance(2 * SECOND)
    first, second = await broker.leasing.reserve(reserve(max_jobs=2))
    await clock.advance(3 * SECOND)
    await broker.settling.ack([AckCall(first.ref)])
    await broker.settling.nack([NackCall(second.ref)])
    report = await broker.operating.report()
    totals, depth = report.total.totals, report.total.depth
    assert (totals.pushed, totals.started, totals.completed, totals.failed) == (3, 2, 1, 1)
    assert (totals.retried, totals.dead_lettered) == (1, 0)
    assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (2, 0, 0, 0)
    assert report.total.wait.count == 2
    assert report.total.wait.p50 == pytest.approx(2 * SECOND, rel=0.05)
    assert report.total.processing.p99 == pytest.approx(3 * SECOND, rel=0.05)
    assert [view.name for view in report.queues] == ["emails", "other"]
    assert [name for name, _ in report.types] == ["SendEmail"]


async def test_a_release_counts_as_no_processing(broker: Broker, clock: ManualClock) -> None:
    await broker.jobs.push([job()])
    (leased,) = await broker.leasing.reserve(reserve())
    await clock.advance(SECOND)
    await broker.settling.nack([NackCall(leased.ref, Release())])
    figures = (await broker.operating.report()).total
    assert (figures.totals.released, figures.processing.count) == (1, 0)


async def test_the_report_can_be_for_some_queues_and_names_one_that_is_not_there(
    broker: Broker,
) -> None:
    await broker.jobs.push([job(), job("other")])
    report = await broker.operating.report(["other"])
    assert report.total.depth.ready == 1
    with pytest.raises(QueueNotFound, match="nowhere"):
        await broker.operating.report(["nowhere"])


async def test_the_age_of_the_oldest_ready_job_grows(broker: Broker, clock: ManualClock) -> None:
    await broker.jobs.push([job()])
    await clock.advance(7 * SECOND)
    await broker.jobs.push([job()])
    assert (await broker.operating.report()).total.oldest_ready == 7 * SECOND


async def test_a_reset_forgets_totals_and_times_but_no_depth(broker: Broker) -> None:
    await broker.jobs.push([job(), job()])
    await broker.leasing.reserve(reserve())
    await broker.operating.reset()
    figures = (await broker.operating.report()).total
    assert (figures.totals.pushed, figures.wait.count, figures.depth.ready) == (0, 0, 1)


async def test_workers_are_known_by_their_calls_and_forgotten_when_silent(
    broker: Broker, clock: ManualClock
) -> None:
    await broker.jobs.push([job()])
    (leased,) = await broker.leasing.reserve(reserve(worker_id="w1"))
    await broker.settling.heartbeat("w2", [])
    one, two = await broker.operating.workers()
    assert (one.key.id, one.leases, list(one.queues)) == ("w1", {"emails": 1}, ["emails"])
    assert (two.key.id, two.leases) == ("w2", {})
    await broker.settling.ack([AckCall(leased.ref)])
    assert not (await broker.operating.workers())[0].leases
    await clock.advance(MINUTE)
    assert await broker.operating.workers() == []


async def test_a_worker_holds_no_lease_that_was_ended_by_a_cancel(broker: Broker) -> None:
    (pushed,) = await broker.jobs.push([job()])
    (leased,) = await broker.leasing.reserve(reserve(worker_id="w1"))
    await broker.jobs.cancel([pushed.job_id])
    assert await broker.settling.ack([AckCall(leased.ref)]) == [LeaseOutcome.LEASE_LOST]
    assert not (await broker.operating.workers())[0].leases


async def test_a_worker_that_asks_for_a_lost_lease_takes_none_from_the_next_one(
    broker: Broker, clock: ManualClock
) -> None:
    await broker.jobs.push([job()])
    (lost,) = await broker.leasing.reserve(reserve(worker_id="w1", lease=SECOND))
    await clock.advance(2 * SECOND)
    await broker.leasing.reserve(reserve(worker_id="w2"))
    await broker.settling.heartbeat("w1", [HeartbeatItem(lost.ref)])
    assert [worker.leases for worker in await broker.operating.workers()] == [{}, {"emails": 1}]


async def test_a_directive_reaches_the_worker_at_its_next_heartbeat(broker: Broker) -> None:
    _, directive = await broker.settling.heartbeat("w1", [])
    assert directive is Directive.NONE
    await broker.operating.stop_worker("w1", Directive.QUIET)
    _, directive = await broker.settling.heartbeat("w1", [])
    assert directive is Directive.QUIET
    with pytest.raises(WorkerNotFound, match="w9"):
        await broker.operating.stop_worker("w9", Directive.STOP)


def test_percentiles_are_right_to_five_percent() -> None:
    rng = Random(3)
    values = sorted(round(10 ** rng.uniform(0, 9)) for _ in range(5000))
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    timing = histogram.timing()
    for share, found in ((0.5, timing.p50), (0.95, timing.p95), (0.99, timing.p99)):
        assert found == pytest.approx(values[round(share * len(values)) - 1], rel=0.05, abs=1)


class TestWorkersAreBounded:
    @pytest.fixture
    def settings(self) -> CoreSettings:
        return CoreSettings(max_workers=3)

    async def test_the_one_heard_of_longest_ago_is_forgotten_first(self, broker: Broker) -> None:
        for worker_id in ("w1", "w2", "w3", "w1", "w4"):
            await broker.settling.heartbeat(worker_id, [])
        assert [worker.key.id for worker in await broker.operating.workers()] == [
            "w1",
            "w3",
            "w4",
        ]
