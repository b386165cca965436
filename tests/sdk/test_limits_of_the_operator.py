"""Limits that an operator has changed hold in the SDK, whose own are those of the contract."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.support.broker_process import BrokerProcess
from towline import Client, InvalidArgument, JobFailed, Registry, Worker, current_job
from towline.jobs import job
from towline.v1.job_pb2 import AttemptLimits
from towline_broker.services.limits import Limits
from towline_broker.services.views import attempt_limits

PATIENCE = 30.0
KIB = 1024
LIMITS = {
    "result_bytes": "2MiB",
    "checkpoint_bytes": "100KiB",
    "progress_message_bytes": "2KiB",
    "max_attempts": 1500,
    "max_lease": "1d",
    "wait": "90s",
}

registry = Registry()


@job(registry=registry)
def answer(size: int) -> str:
    return "x" * size


@job(registry=registry, max_attempts=2, backoff=0)
def note(size: int, message: int) -> tuple[int, int]:
    me = current_job()
    if me.attempt == 1:
        me.progress(0.5, "x" * message)
        me.checkpoint("x" * size)
        raise ConnectionError
    assert me.last_progress is not None
    return len(me.last_checkpoint), len(me.last_progress.message)


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    environment = {"TOWLINE_LIMITS": json.dumps(LIMITS)}
    with BrokerProcess("memory:", "--http", "off", environment=environment) as server:
        yield server


@pytest.fixture
def client(server: BrokerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def test_larger_results_and_notes_are_kept_and_what_is_too_large_is_told(
    server: BrokerProcess, client: Client
) -> None:
    with Worker(server.address, ["q"], registry=registry, lease=timedelta(hours=20), wait=70):
        assert len(client.dispatch(answer, size=1500 * KIB, queue="q").result(PATIENCE)) > 2**20
        noted = client.dispatch(note, size=90 * KIB, message=3 * KIB, queue="q")
        assert noted.result(PATIENCE) == [90 * KIB, 2 * KIB]
        with pytest.raises(JobFailed, match="at most 2097152 are kept: store it elsewhere"):
            client.dispatch(answer, size=2048 * KIB, queue="q").result(PATIENCE)
        too_much = client.dispatch(note, size=100 * KIB, message=1, max_attempts=1, queue="q")
        with pytest.raises(JobFailed, match="at most 102400 are kept: store more elsewhere"):
            too_much.result(PATIENCE)


def test_what_a_job_and_a_worker_ask_for_is_judged_by_the_broker(
    server: BrokerProcess, client: Client
) -> None:
    client.dispatch("x", max_attempts=1500, queue="other")
    with pytest.raises(InvalidArgument, match="max_attempts: is 1501; expected 1 to 1500"):
        client.dispatch("x", max_attempts=1501, queue="other")
    with pytest.raises(InvalidArgument, match="lease: is 25 h; expected 1 s to 1 d"):
        Worker(server.address, ["q"], lease=timedelta(hours=25), registry=registry).run()
    with pytest.raises(InvalidArgument, match="wait: is 91 s; expected 0 s to"):
        Worker(server.address, ["q"], wait=91, registry=registry).run()


def test_where_the_limits_are_those_of_the_contract_leases_tell_none() -> None:
    assert attempt_limits(Limits()) is None
    assert attempt_limits(Limits(result_bytes=5)) == AttemptLimits(
        result_bytes=5, checkpoint_bytes=64 * KIB, progress_message_bytes=1 * KIB
    )
