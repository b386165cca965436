"""Workers and a real broker: what they promise together."""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.standstill import Standstill
from towline import (
    Client,
    DeadReason,
    Job,
    JobCancelled,
    JobState,
    Registry,
    Worker,
    current_job,
    job,
)
from towline.context import CancelReason
from towline.v1.admin_service_pb2 import ListWorkersRequest, StopWorkerRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.queue_service_pb2 import WorkerDirective
from towline.worker.options import PoolName

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0

both_pools = pytest.mark.parametrize("pool", ["thread", "async"])
registry = Registry()


@job(registry=registry, retention=60)
def double(number: int) -> int:
    return 2 * number


class Flaky(Job, registry=registry):
    """Fails until its third attempt, which finds what the second one left."""

    max_attempts = 3
    backoff = 0.05
    retention = 60

    def handle(self) -> str:
        me = current_job()
        if me.attempt < 3:
            me.checkpoint(f"attempt {me.attempt}".encode())
            raise ConnectionError(f"attempt {me.attempt} failed")
        assert me.last_progress is not None
        assert me.last_failure is not None
        return f"{me.last_progress.checkpoint.decode()}, {me.last_failure.message}"


class Hopeless(Job, registry=registry):
    max_attempts = 3
    backoff = 0.05

    def handle(self) -> None:
        raise ValueError(f"attempt {current_job().attempt}")


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as server:
        yield server


@pytest.fixture
def client(server: BrokerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """A queue of the test's own, on the broker that tests share."""
    return str(request.node.name).replace("[", ".").replace("]", "")


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


@contextlib.contextmanager
def working(
    client: Client,
    queue: str,
    jobs: Registry = registry,
    pool: PoolName = "thread",
    lease: int = 30,
) -> Iterator[Worker]:
    worker = Worker(client, [queue], registry=jobs, pool=pool, lease=lease)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(0)


@both_pools
def test_a_batch_is_run_and_its_results_come_back(
    client: Client, queue: str, pool: PoolName
) -> None:
    with working(client, queue, pool=pool) as worker:
        handles = client.dispatch_batch(
            [double.job(number=number) for number in range(300)], queue=queue
        )
        assert [handle.result(PATIENCE) for handle in handles] == [2 * n for n in range(300)]
        worker.stop()
    assert worker.stats.processed == 300


@both_pools
def test_a_failed_job_is_retried_with_what_its_attempts_left(
    client: Client, queue: str, pool: PoolName
) -> None:
    with working(client, queue, pool=pool) as worker:
        handle = client.dispatch(Flaky(), queue=queue)
        assert handle.result(PATIENCE) == "attempt 2, attempt 2 failed"
        worker.stop()
    assert (worker.stats.processed, worker.stats.failed) == (1, 2)


@both_pools
def test_a_job_out_of_attempts_is_dead_with_its_last_failure(
    client: Client, queue: str, pool: PoolName
) -> None:
    with working(client, queue, pool=pool):
        status = client.wait(client.dispatch(Hopeless(), queue=queue).id, PATIENCE)
    assert status.state is JobState.DEAD
    assert status.dead_reason is DeadReason.ATTEMPTS_EXHAUSTED
    assert status.attempt == 3
    assert status.failure is not None
    assert (status.failure.type, status.failure.message) == ("ValueError", "attempt 3")


def test_a_payload_that_does_not_fit_is_dead_at_the_first_attempt(
    client: Client, queue: str
) -> None:
    with working(client, queue):
        handle = client.dispatch("double", {"number": "three"}, queue=queue, max_attempts=10)
        status = client.wait(handle.id, PATIENCE)
    assert status.dead_reason is DeadReason.REJECTED
    assert status.attempt == 1
    assert status.failure is not None
    assert status.failure.type == "InvalidPayload"
    assert "number" in status.failure.message


def test_an_unknown_type_keeps_its_attempts_and_shows_to_operators(
    client: Client, queue: str
) -> None:
    with working(client, queue):
        handle = client.dispatch("Unheard.of", {}, queue=queue, max_attempts=1)
        eventually(lambda: handle.status().releases == 1)
        status = handle.status()
    assert status.state is JobState.SCHEDULED
    assert status.attempt == 0
    assert status.failure is not None
    assert status.failure.type == "UnknownJobType"


@both_pools
def test_cancelling_a_job_that_runs_stops_its_handler(
    client: Client, queue: str, pool: PoolName
) -> None:
    reasons: list[CancelReason | None] = []
    started = threading.Event()

    @job(type="wait", registry=(own := Registry()))
    def wait() -> str:
        started.set()
        current_job().wait_cancelled(PATIENCE)
        reasons.append(current_job().cancel_reason)
        return "too late"

    with working(client, queue, own, pool, lease=1):
        handle = client.dispatch("wait", {}, queue=queue)
        assert started.wait(PATIENCE)
        handle.cancel()
        eventually(lambda: reasons)
        with pytest.raises(JobCancelled):
            handle.result(PATIENCE)
    assert reasons == [CancelReason.JOB_CANCELLED]


def test_progress_is_seen_while_the_job_runs(client: Client, queue: str) -> None:
    go_on = threading.Event()

    @job(type="report", registry=(own := Registry()))
    def report() -> None:
        current_job().progress(0.5, "half way")
        assert go_on.wait(PATIENCE)

    def is_half_way() -> bool:
        progress = handle.status().progress
        return progress is not None and (progress.fraction, progress.message) == (0.5, "half way")

    with working(client, queue, own):
        handle = client.dispatch("report", {}, queue=queue)
        eventually(is_half_way)
        go_on.set()


def test_an_operator_lists_quiets_resumes_and_stops_a_worker(
    client: Client, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "towline.worker")
    admin = AdminServiceStub(client.channel)

    def tell(directive: WorkerDirective.ValueType, heard: str) -> None:
        request = StopWorkerRequest(worker_id=worker.worker_id, directive=directive)
        admin.StopWorker(request, timeout=10)
        eventually(lambda: f"told by the broker to {heard}" in caplog.text)

    go_on = threading.Event()

    @job(type="hold", registry=(own := Registry()))
    def hold() -> None:
        assert go_on.wait(PATIENCE)

    @job(type="quick", registry=own, retention=60)
    def quick() -> str:
        return "done"

    with working(client, queue, own, lease=1) as worker:
        held = client.dispatch("hold", {}, queue=queue)  # keeps its heartbeats frequent
        eventually(lambda: held.status().state is JobState.LEASED)
        listed = {each.worker_id: each for each in admin.ListWorkers(ListWorkersRequest()).workers}
        assert listed[worker.worker_id].leases == 1
        tell(WorkerDirective.WORKER_DIRECTIVE_QUIET, "take no more jobs")
        waiting = client.dispatch("quick", {}, queue=queue)
        time.sleep(0.5)  # nothing is to happen, so there is nothing to wait for
        assert waiting.status().state is JobState.READY
        tell(WorkerDirective.WORKER_DIRECTIVE_NONE, "go on")
        assert client.wait(waiting.id, PATIENCE).state is JobState.SUCCEEDED
        tell(WorkerDirective.WORKER_DIRECTIVE_STOP, "stop")
        go_on.set()
        assert worker.join(PATIENCE)


def test_a_killed_broker_costs_no_job_and_runs_none_twice(tmp_path: Path) -> None:
    runs: Counter[int] = Counter()
    first_few = threading.Semaphore(0)

    @job(type="count", registry=(own := Registry()), retention=600, timeout=600)
    def count(number: int) -> int:
        runs[number] += 1
        first_few.release()
        time.sleep(0.01)
        return number

    with (
        BrokerProcess(f"sqlite:///{tmp_path / 'jobs.db'}") as broker,
        Client(broker.address) as client,
        working(client, "default", own),
    ):
        handles = client.dispatch_batch(
            [count.job(number=number) for number in range(400)], queue="default"
        )
        for _ in range(3):
            for _ in range(50):
                assert first_few.acquire(timeout=PATIENCE)
            broker.kill()
            broker.start()
        assert [handle.result(60) for handle in handles] == list(range(400))
    assert runs == dict.fromkeys(range(400), 1)


@contextlib.contextmanager
def worker_process(address: str, program: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "app.py").write_text(program)
    process = subprocess.Popen(
        [sys.executable, "app.py", address],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


HANGING = """
import os, sys, time
from towline import Worker, current_job, job

@job
def slow() -> int:
    os.write(1, b"started\\n")
    if current_job().attempt == 1:
        time.sleep(1000)
    return current_job().attempt

Worker(sys.argv[1], ["orphans"], lease=2).run()
"""


def test_a_job_of_a_killed_worker_is_back_within_its_lease_and_a_second(
    server: BrokerProcess, client: Client, tmp_path: Path
) -> None:
    own = Registry()

    @job(type="slow", registry=own, retention=60)
    def slow() -> int:
        return current_job().attempt

    handle = client.dispatch("slow", {}, queue="orphans", retention=60)
    with worker_process(server.address, HANGING, tmp_path) as process, Standstill() as standstill:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        os.kill(process.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        with working(client, "orphans", own):
            assert handle.result(PATIENCE) == 2
            took = time.monotonic() - killed_at
    # A heartbeat may have gone out just before; the second more is for a busy machine.
    assert took < 2 + 1 + 1 + standstill.longest


COUNTING = """
import sys, time
from pathlib import Path
from towline import Worker, current_job, job

@job
def mark(number: int) -> int:
    with open("marks", "a") as marks:
        marks.write(f"{number}\\n")
    time.sleep(0.02)
    return number

Worker(sys.argv[1], ["rolling"], concurrency=4).run()
"""


def test_workers_that_are_restarted_by_sigterm_run_each_job_once(
    server: BrokerProcess, client: Client, tmp_path: Path
) -> None:
    handles = [
        client.push_raw("rolling", "mark", json.dumps({"number": number}).encode(), retention=60)
        for number in range(200)
    ]
    marks = tmp_path / "marks"
    marks.touch()
    for target in (30, 80, 130):
        with worker_process(server.address, COUNTING, tmp_path) as process:
            eventually(lambda: len(marks.read_text().splitlines()) >= target)  # noqa: B023
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    with worker_process(server.address, COUNTING, tmp_path):
        assert [handle.result(PATIENCE) for handle in handles] == list(range(200))
    assert Counter(marks.read_text().split()) == {str(number): 1 for number in range(200)}
    assert all(handle.status().attempt == 1 for handle in handles)
