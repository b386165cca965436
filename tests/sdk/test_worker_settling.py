"""Telling outcomes: each until it is answered, in batches, through failures."""

import threading
import time
from collections.abc import Sequence

import grpc
import pytest

from tests.sdk.fake_broker import PATIENCE, FakeBroker, Settlement
from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline.errors import CallFailed, LeaseLost
from towline.jobs import job
from towline.registry import Registry
from towline.v1.queue_service_pb2 import Ack, LeaseOutcome, Nack
from towline.worker import NotSettled, Worker
from towline.worker.options import PoolName

registry = Registry()

FAILURES = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
]


@job(registry=registry)
def succeed() -> str:
    return "done"


@job(registry=registry)
def fail() -> None:
    raise ValueError("no")


@job(registry=registry)
def large() -> str:
    return "x" * 1_000_000


def tokens(call: Sequence[Settlement]) -> list[str]:
    return [item.lease_token for item in call]


@both_pools
def test_outcomes_that_gather_during_a_call_go_out_together(pool: PoolName) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, pool=pool, concurrency=30):
        broker.keep_back("Ack")
        broker.ack(broker.add("succeed"))
        others = [broker.add("succeed") for _ in range(20)]
        heard.wait_for(lambda: len(heard.completed) == 21)
        broker.let_go()
        for each in others:
            broker.ack(each)
        assert [len(call) for call in broker.settle_calls] == [1, 20]


def test_a_call_is_not_larger_than_servers_take() -> None:
    with fake_broker() as broker, working(broker, registry, concurrency=20):
        for each in [broker.add("large") for _ in range(10)]:
            broker.ack(each)
        for call in broker.settle_calls:
            assert sum(item.ByteSize() for item in call) <= 4 * 1024 * 1024


@both_pools
@pytest.mark.parametrize("code", FAILURES)
@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize(("type", "method"), [("succeed", "Ack"), ("fail", "Nack")])
def test_an_outcome_without_an_answer_is_told_again_until_there_is_one(
    pool: PoolName, code: grpc.StatusCode, after: bool, type: str, method: str
) -> None:
    with fake_broker() as broker:
        broker.fail(method, code, times=3, after=after)
        with working(broker, registry, pool=pool) as worker:
            job_id = broker.add(type)
            broker.settlement(job_id)
            worker.stop()
        same = [item for call in broker.settle_calls for item in call]
        assert len(same) == (4 if after else 1)
        assert all(item == same[0] for item in same)
    stats = worker.stats
    assert (stats.processed, stats.failed, stats.lost) == (type == "succeed", type == "fail", 0)


def test_acks_and_nacks_go_in_calls_of_their_own() -> None:
    with fake_broker() as broker, working(broker, registry, concurrency=10):
        added = [broker.add(type) for type in ["succeed", "fail"] * 10]
        for each in added:
            broker.settlement(each)
        kinds = [{type(item) for item in call} for call in broker.settle_calls]
        assert all(kind in ({Ack}, {Nack}) for kind in kinds)


def test_a_job_that_runs_while_the_broker_is_away_is_acknowledged_when_it_is_back() -> None:
    go_on = threading.Event()
    started = threading.Event()

    @job(type="span", registry=(own := Registry()))
    def span() -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "over the outage"

    heard = Heard()
    with fake_broker() as broker, working(broker, own, heard, lease=1) as worker:
        job_id = broker.add("span")
        assert started.wait(PATIENCE)
        broker.stop()
        go_on.set()
        heard.wait_for(lambda: heard.completed)
        heard.wait_for(lambda: heard.errors)
        broker.start()
        assert broker.ack(job_id).result == b'"over the outage"'
        # And the worker takes jobs as before.
        broker.ack(broker.add("span"))
        worker.stop()
    assert worker.stats.processed == 2
    [error] = heard.errors  # one, for one outage
    assert isinstance(error, CallFailed)
    assert error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}


@pytest.mark.parametrize(
    "outcome",
    [
        LeaseOutcome.LEASE_OUTCOME_LEASE_LOST,
        LeaseOutcome.LEASE_OUTCOME_ALREADY_SETTLED,
        LeaseOutcome.LEASE_OUTCOME_NOT_FOUND,
    ],
)
@pytest.mark.parametrize("type", ["succeed", "fail"])
def test_an_outcome_that_comes_too_late_is_told_to_on_error(
    outcome: LeaseOutcome.ValueType, type: str
) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, concurrency=1) as worker:
        late = broker.add(type)
        broker.set_outcome(late, outcome)
        heard.wait_for(lambda: heard.errors)
        broker.ack(broker.add("succeed"))
        worker.stop()
    [error] = heard.errors
    assert isinstance(error, LeaseLost)
    assert late in str(error)
    assert (worker.stats.processed, worker.stats.failed, worker.stats.lost) == (1, 0, 1)


def test_a_result_that_the_broker_refuses_makes_the_job_dead() -> None:
    with fake_broker() as broker:
        job_id = broker.add("succeed")
        broker.refuse(job_id, "Ack")
        with working(broker, registry):
            nack = broker.nack(job_id)
    assert nack.dead_letter
    assert nack.failure.type == "InvalidResult"
    assert "scripted refusal" in nack.failure.message


def test_an_outcome_that_these_credentials_may_not_tell_is_given_up_at_once() -> None:
    heard = Heard()
    with fake_broker() as broker:
        job_id = broker.add("succeed")
        broker.refuse(job_id, "Ack", reason="PERMISSION_DENIED")
        with working(broker, registry, heard, concurrency=1):
            heard.wait_for(lambda: heard.errors)
            broker.ack(broker.add("succeed"))
        assert len(broker.settle_calls) == 2
    [error] = heard.errors
    assert isinstance(error, NotSettled)
    assert error.job_id == job_id
    assert "scripted refusal" in str(error)


def test_an_outcome_that_is_refused_twice_is_given_up_and_told() -> None:
    heard = Heard()

    class Stubborn(FakeBroker):
        def _settle_one(self, method: str, item: Settlement):  # type: ignore[no-untyped-def]
            if isinstance(item, Nack):
                self.refused[item.lease_token] = "Nack"
            return super()._settle_one(method, item)

    broker = Stubborn()
    broker.start()
    try:
        with working(broker, registry, heard, concurrency=1):
            job_id = broker.add("fail")
            heard.wait_for(lambda: heard.errors)
            broker.ack(broker.add("succeed"))
    finally:
        broker.stop()
    [error] = heard.errors
    assert isinstance(error, NotSettled)
    assert error.job_id == job_id


def test_stopping_during_an_outage_ends_at_the_drain_timeout_and_says_what_was_not_told() -> None:
    heard = Heard()
    go_on = threading.Event()
    started = threading.Event()

    @job(type="span", registry=(own := Registry()))
    def span() -> None:
        started.set()
        assert go_on.wait(PATIENCE)

    with fake_broker() as broker:
        job_id = broker.add("span")
        worker = Worker(broker.address, registry=own, **heard.callbacks())
        worker.start()
        assert started.wait(PATIENCE)
        broker.stop()
        go_on.set()
        heard.wait_for(lambda: heard.completed)
        begun = time.monotonic()
        worker.stop(timeout=1)
        assert time.monotonic() - begun < 12
        broker.start()
    untold = [error for error in heard.errors if isinstance(error, NotSettled)]
    assert [error.job_id for error in untold] == [job_id]
