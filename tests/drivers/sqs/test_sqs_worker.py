"""The SDK's own client and worker over SQS: nothing in their code is for one store only."""

import threading
from collections import Counter

import pytest

from tests.support.broker_process import BrokerProcess
from towline import Client, InvalidArgument, Job, NotSupported, Registry, Worker, current_job, job

PATIENCE = 60.0

registry = Registry()
ran: Counter[str] = Counter()
changed = threading.Condition()


def note(what: str) -> None:
    with changed:
        ran[what] += 1
        changed.notify_all()


@job(queue="census", registry=registry)
def count(number: int) -> None:
    note(f"count {number}")


class Flaky(Job, registry=registry):
    queue = "census"
    max_attempts = 3
    backoff = 0.05

    def handle(self) -> None:
        note(f"flaky {current_job().attempt}")
        if current_job().attempt < 3:
            raise ConnectionError("not yet")


def test_p3_jobs_are_dispatched_run_and_retried(url: str) -> None:
    ran.clear()
    with BrokerProcess(url) as broker, Client(broker.address) as client:
        client.dispatch_batch([count.job(number) for number in range(25)])
        client.dispatch(Flaky())
        expected = Counter(f"count {number}" for number in range(25))
        expected.update(f"flaky {attempt}" for attempt in (1, 2, 3))
        worker = Worker(broker.address, ["census"], concurrency=8, registry=registry)
        worker.start()
        try:
            with changed:
                assert changed.wait_for(lambda: ran.total() >= expected.total(), PATIENCE), ran
        finally:
            worker.stop(10)
        assert ran == expected


def test_a_producer_is_told_by_the_exceptions_of_the_sdk(url: str) -> None:
    with BrokerProcess(url) as broker, Client(broker.address) as client:
        with pytest.raises(InvalidArgument, match="does not offer unique keys; leave it empty"):
            client.dispatch(count.job(1), unique_key="k")
        handle = client.dispatch(count.job(1))
        with pytest.raises(NotSupported, match="looking up a job by its id") as failed:
            handle.result(timeout=5)
        assert (failed.value.code, failed.value.reason) == ("UNIMPLEMENTED", "STORE_CANNOT")
