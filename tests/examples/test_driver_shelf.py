"""The example of a driver of one's own: built and installed as its README says, it keeps the
contract, and a broker serves its store."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.broker_process import BrokerProcess, start_command
from tests.support.calls import calls_to, failure_of
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    GetJobRequest,
    LeaseOutcome,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "driver_shelf"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the example installed, in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    run(
        [
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
            *("--no-deps", "--no-build-isolation", "--target", str(folder), str(EXAMPLE)),
        ],
        {},
    )
    return {"PYTHONPATH": str(folder)}


def run(arguments: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=100,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"no end: {late.stdout!r}\n{late.stderr!r}") from None
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_passes_the_contract_suite_and_its_own_tests(installed: dict[str, str]) -> None:
    # Where it hangs, its stacks are told.
    hangs = ("-o", "faulthandler_timeout=60")
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "-c", str(EXAMPLE / "pyproject.toml"))
    report = run(["-m", "pytest", *options, *hangs, str(EXAMPLE)], installed)
    summary = report.strip().splitlines()[-1]
    assert "skipped" not in summary
    assert int(summary.split(" passed")[0].split()[-1]) > 150, report


def reserve(queue: str) -> ReserveRequest:
    return ReserveRequest(queues=[QueueChoice(name=queue)], max_jobs=9, worker_id="w")


async def test_a_broker_serves_it_and_finds_its_jobs_again_after_being_killed(
    installed: dict[str, str], tmp_path: Path
) -> None:
    jobs = [Job(id=uuid7(), queue="q", type="T", payload=b"\x00\xff") for _ in range(3)]
    store = f"shelf://{tmp_path}/jobs.shelf"
    with BrokerProcess(store, environment=installed) as broker:
        async with calls_to(broker.address) as calls:
            await calls.queue.Push(PushRequest(jobs=jobs))
            stats = await calls.admin.Stats(StatsRequest())
            assert stats.broker.driver == "shelf"
            await refuse_what_is_too_large(calls)
        broker.kill()
        broker.start()
        async with calls_to(broker.address) as calls:
            leases = (await calls.queue.Reserve(reserve("q"))).leases
            assert [lease.job for lease in leases] == jobs
            acks = [Ack(lease_token=lease.lease_token) for lease in leases]
            results = (await calls.queue.Ack(AckRequest(acks=acks))).results
            assert {each.outcome for each in results} == {LeaseOutcome.LEASE_OUTCOME_OK}
            job = (await calls.queue.GetJob(GetJobRequest(id=jobs[0].id))).job
            assert job.job.id == jobs[0].id


async def refuse_what_is_too_large(calls: Any) -> None:
    """The store has declared its bound, and the broker holds producers to it."""
    large = Job(type="T", payload=b"x" * 300_000)
    failure = await failure_of(calls.queue.Push(PushRequest(jobs=[large])))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "a store of the kind shelf keeps at most 262144" in failure.violations["jobs[0].payload"]


def test_without_it_a_broker_says_that_there_is_no_such_driver(tmp_path: Path) -> None:
    process = start_command(["--store", "shelf:///jobs.shelf"], tmp_path)
    assert process.wait(30) != 0
    assert "no driver for 'shelf:' is installed" in (tmp_path / "broker.err").read_text()
