"""P1 to P8, P10: workers and brokers that are stopped for three leases, and then go on.

`make faults` does it more often, with the figures on the screen.
"""

import os
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.durable_stores import EMBEDDED, EVERY, SHARED
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import MIXED
from tests.faults.harness.link import Link, total_of
from tests.faults.harness.load import Load
from tests.faults.sdk_worker import CONCURRENCY, SECONDS, TYPE, SdkWorker, sdk_worker
from tests.support.broker_process import BrokerProcess
from tests.support.standstill import Standstill
from towline import Client, JobHandle
from towline.v1 import queue_service_pb2 as pb

#: How often.
STOPS = size("STOPS", 1)
QUEUE = "stopped"
#: All seconds.
LEASE = 1.0
STOPPED = 3 * LEASE
#: How much later than its lease an orphaned job may be back (P8).
PROMPT = 1.0
DRAIN_SECONDS = 60.0
HABITS = replace(MIXED, lease=LEASE, call_timeout=2.0)
#: A plain test run leaves out what differs little from these.
LONG = "TOWLINE_STOPS" in os.environ
WORKERS_OVER = list(EVERY) if LONG else ["file"]
ALONE = list(EMBEDDED) if LONG else ["file"]
SHARED_BY = list(SHARED) if LONG else ["postgresql"]


def worker(broker: BrokerProcess, job_seconds: float) -> AbstractContextManager[SdkWorker]:
    return sdk_worker(broker.address, QUEUE, lease=LEASE, job_seconds=job_seconds)


def dispatched(client: Client) -> list[JobHandle]:
    """As many as a worker takes at once."""
    return [client.dispatch(TYPE, {}, queue=QUEUE, retention=600) for _ in range(CONCURRENCY)]


def seen_back(address: str) -> list[float]:
    """When jobs came that a worker has lost; they are given back, for another."""
    times: list[float] = []
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=CONCURRENCY)
    request.wait.FromSeconds(round(SECONDS))
    with Link([address]) as link:
        tokens: list[str] = []
        while len(tokens) < CONCURRENCY:
            leases = link.queue.Reserve(request, timeout=2 * SECONDS).leases
            assert {lease.attempt for lease in leases} == {2}
            times += [time.monotonic()] * len(leases)
            tokens += [lease.lease_token for lease in leases]
        nacks = [pb.Nack(lease_token=token, release=pb.Release()) for token in tokens]
        link.queue.Nack(pb.NackRequest(nacks=nacks))
    return times


@pytest.mark.parametrize("kind", WORKERS_OVER)
@pytest.mark.timeout(90 + 10 * STOPS)
def test_p8_the_jobs_of_a_stopped_worker_are_given_to_another_and_its_late_acks_are_refused(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    back: list[float] = []
    with (
        EVERY[kind](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path) as broker,
        Client(broker.address) as client,
        Standstill(tmp_path) as standstill,
    ):
        for _ in range(STOPS):
            # They are at work when it is stopped, and done when it goes on.
            with worker(broker, STOPPED / 2) as stopped:
                handles = dispatched(client)
                begun = stopped.began(CONCURRENCY)
                stopped.process.send_signal(signal.SIGSTOP)
                at = time.monotonic()
                back += [each - at for each in seen_back(broker.address)]
                with worker(broker, 0.0) as other:
                    again = other.began(CONCURRENCY)
                    for handle in handles:
                        assert handle.wait(SECONDS).attempt == 2
                    time.sleep(max(0.0, at + STOPPED - time.monotonic()))
                    stopped.process.send_signal(signal.SIGCONT)
                    lost = " ".join(" ".join(stopped.hears("lost")) for _ in range(CONCURRENCY))
            assert begun.keys() == again.keys() == {handle.id for handle in handles}
            assert {attempt for attempt, _ in begun.values()} == {1}
            assert {attempt for attempt, _ in again.values()} == {2}
            assert all(handle.id in lost for handle in handles)
        totals = total_of(broker.address).totals
    jobs = STOPS * CONCURRENCY
    figures.show(f"stopped workers, {kind}", stops=STOPS, jobs=jobs, latest_back=max(back))
    assert max(back) <= LEASE + PROMPT + standstill.longest
    assert (totals.completed, totals.lease_expired, totals.released) == (jobs, jobs, jobs)


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.timeout(90 + 10 * STOPS)
def test_p10_a_broker_that_was_stopped_leaves_jobs_to_workers_that_are_alive(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with (
        EVERY[kind](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path) as broker,
        Client(broker.address) as client,
        worker(broker, STOPPED + LEASE) as alive,
    ):
        for _ in range(STOPS):
            handles = dispatched(client)
            alive.began(CONCURRENCY)
            broker.send_signal(signal.SIGSTOP)
            time.sleep(STOPPED)
            broker.send_signal(signal.SIGCONT)
            assert {handle.wait(SECONDS).attempt for handle in handles} == {1}
        totals = total_of(broker.address).totals
        assert broker.log.count("stood still") >= STOPS
    jobs = STOPS * CONCURRENCY
    figures.show(f"stopped brokers, live workers, {kind}", stops=STOPS, jobs=jobs)
    assert (totals.completed, totals.lease_expired, totals.started) == (jobs, 0, jobs)


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.timeout(90 + DRAIN_SECONDS + 10 * STOPS)
def test_every_promise_is_kept_by_a_broker_that_is_stopped_under_load(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with (
        EVERY[kind](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path) as broker,
        Load([broker.address], tmp_path, seed=seed(), habits=HABITS) as load,
    ):
        for _ in range(STOPS):
            stop_and_wake(broker, load)
        verdict = load.finish(DRAIN_SECONDS, store.assumptions)
    figures.prove(f"stopped brokers, {kind}", verdict, stops=STOPS)


@pytest.mark.parametrize("kind", SHARED_BY)
@pytest.mark.timeout(90 + DRAIN_SECONDS + 20 * STOPS)
def test_every_promise_is_kept_by_two_brokers_of_which_one_is_stopped(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with (
        EVERY[kind](tmp_path) as store,
        store.broker(tmp_path, "a") as one,
        store.broker(tmp_path, "b") as other,
        Load([one.address, other.address], tmp_path, seed=seed(), habits=HABITS) as load,
    ):
        for _ in range(STOPS):
            # While the one stands still the other one takes back what it had handed out.
            expired = total_of(other.address).totals.lease_expired
            stop_and_wake(one, load)
            assert total_of(other.address).totals.lease_expired > expired
            stop_and_wake(other, load)
        verdict = load.finish(DRAIN_SECONDS, store.shared)
    figures.prove(f"two brokers, one stopped, {kind}", verdict, stops=2 * STOPS)


def stop_and_wake(broker: BrokerProcess, load: Load) -> None:
    load.wait_for_acknowledged(100)
    broker.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED)
    broker.send_signal(signal.SIGCONT)
    load.wait_for_acknowledged(100)
