"""What a worker decides by itself: which types it runs, how often and how long, how it asks."""

import json
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.sdk.fake_broker import FakeBroker, duration
from tests.sdk.running import Heard, both_pools, fake_broker, working
from towline import ConfigurationError, Job, Registry, Release, Retry, Worker, current_job, job
from towline.v1 import job_pb2
from towline.worker import UnknownJobType
from towline.worker.options import PoolName

registry = Registry()


@job(registry=registry)
def quick() -> None:
    pass


@job(registry=registry)
def other() -> None:
    pass


@job(registry=registry, job_aliases=["was_renamed"])
def renamed() -> None:
    pass


@job(registry=registry)
def fail(how: str) -> None:
    if how == "retry":
        raise Retry(after=5)
    if how == "release":
        raise Release
    raise ValueError(how)


class Timed(Job, registry=registry):
    timeout = 7

    def handle(self) -> float | None:
        return current_job().timeout


@job(registry=registry)
def untimed() -> dict[str, Any]:
    me = current_job()
    return {"timeout": me.timeout, "max_attempts": me.max_attempts}


def result(broker: FakeBroker, job_id: str) -> Any:
    return json.loads(broker.ack(job_id).result)


@pytest.mark.parametrize("types", [["quick"], {quick, Timed}])
def test_types_that_are_left_out_are_given_back_for_another_worker(types: Any) -> None:
    heard = Heard()
    with fake_broker() as broker, working(broker, registry, heard, types=types):
        broker.ack(broker.add("quick"))
        nacks = [broker.nack(broker.add("other")) for _ in range(2)]
        assert [nack.release.delay.ToSeconds() for nack in nacks] == [5, 10]
        nack = nacks[0]
        assert nack.failure.type == "UnknownJobType"
        assert nack.failure.message == (
            "the types that this worker runs do not include 'other': name it there, or let another "
            "worker take queue 'default'"
        )
    assert [type(error) for error in heard.errors] == [UnknownJobType, UnknownJobType]


@pytest.mark.parametrize("types", [[renamed], ["was_renamed"]])
def test_a_type_that_is_run_is_run_under_its_earlier_names_too(types: Any) -> None:
    with fake_broker() as broker, working(broker, registry, types=types):
        broker.ack(broker.add("was_renamed"))
        broker.ack(broker.add("renamed"))


def test_a_type_that_nobody_defines_is_refused_when_the_worker_starts() -> None:
    worker = Worker("127.0.0.1:1", registry=registry, types=["quik"], guardian=False)
    with pytest.raises(ConfigurationError, match=r"types: .* 'quik'; did you mean 'quick'\?"):
        worker.start()
    assert not worker.running


def policy(attempts: int) -> job_pb2.RetryPolicy:
    return job_pb2.RetryPolicy(max_attempts=attempts)


@both_pools
@pytest.mark.parametrize("how", ["raise", "retry"])
def test_max_attempts_ends_a_job_that_its_own_policy_would_try_again(
    pool: PoolName, how: str
) -> None:
    payload = json.dumps({"how": how}).encode()
    with fake_broker() as broker, working(broker, registry, pool=pool, max_attempts=2):
        first = broker.nack(broker.add("fail", payload, attempt=1, retry=policy(10)))
        assert first.WhichOneof("action") == (None if how == "raise" else "retry_after")
        second = broker.nack(broker.add("fail", payload, attempt=2, retry=policy(10)))
        assert second.dead_letter
        assert second.failure.type == ("ValueError" if how == "raise" else "Retry")
        # Where the policy of the job allows no more either, the broker says so.
        third = broker.nack(broker.add("fail", b'{"how": "raise"}', attempt=2, retry=policy(2)))
        assert third.WhichOneof("action") is None


def test_max_attempts_leaves_what_a_handler_gives_back() -> None:
    with fake_broker() as broker, working(broker, registry, max_attempts=1):
        nack = broker.nack(broker.add("fail", b'{"how": "release"}', retry=policy(10)))
        assert nack.WhichOneof("action") == "release"


@both_pools
def test_handlers_see_the_policy_of_their_worker(pool: PoolName) -> None:
    with (
        fake_broker() as broker,
        working(broker, registry, pool=pool, default_timeout=60, max_attempts=2),
    ):
        assert result(broker, broker.add("untimed")) == {"timeout": 60, "max_attempts": 2}
        # A timeout of the job, or of its class, comes first.
        told = result(broker, broker.add("untimed", timeout=duration(50)))
        assert told["timeout"] == 50
        assert result(broker, broker.add("Timed")) == 7


@both_pools
def test_the_default_timeout_strikes(pool: PoolName) -> None:
    @job(type="linger", registry=(own := Registry()))
    def linger() -> None:
        current_job().wait_cancelled(20)

    with fake_broker() as broker, working(broker, own, pool=pool, default_timeout=0.2):
        assert broker.nack(broker.add("linger")).failure.type == "JobTimeout"


def test_wait_and_sleep_set_the_pace_of_asking() -> None:
    asked_at: list[float] = []

    class Watched(FakeBroker):
        def Reserve(self, request, context):  # type: ignore[no-untyped-def] # noqa: N802
            asked_at.append(time.monotonic())
            return super().Reserve(request, context)

    broker = Watched()
    broker.start()
    try:
        with working(broker, registry, wait=0, sleep=0.4):
            broker.wait_for(lambda: len(asked_at) >= 4)
            assert all(later - earlier >= 0.4 for earlier, later in pairwise(asked_at))
            assert all(not request.wait.ToNanoseconds() for request in broker.reserves)
    finally:
        broker.stop()


def test_there_is_no_pause_after_jobs_and_none_before_the_end() -> None:
    begun = time.monotonic()
    with fake_broker() as broker:
        jobs = [broker.add("quick") for _ in range(3)]
        with working(broker, registry, wait=0, sleep=60, concurrency=1) as worker:
            for each in jobs:
                broker.ack(each)
            worker.stop()
    assert time.monotonic() - begun < 30


def test_a_wait_is_asked_for_as_it_is_set() -> None:
    with fake_broker() as broker, working(broker, registry, wait=1.5):
        broker.wait_for(lambda: broker.reserves)
        assert broker.reserves[0].wait.ToMilliseconds() == 1500


def test_a_worker_shows_itself_to_the_broker_at_once() -> None:
    with fake_broker() as broker, working(broker, registry):
        broker.wait_for(lambda: broker.heartbeats, timeout=5)
