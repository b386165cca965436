"""What a person at a terminal sees of a broker over SQS."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess, start_command
from tests.support.calls import calls_to
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Nack,
    NackRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)


@pytest.fixture
def broker(url: str) -> Iterator[BrokerProcess]:
    with BrokerProcess(url) as broker:
        yield broker


def towline(broker: BrokerProcess, *arguments: str) -> tuple[int, str]:
    """The exit code, and all that was said."""
    done = subprocess.run(
        [sys.executable, "-m", "towline.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"TOWLINE_URL": broker.address},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_user_is_told_what_the_store_cannot_do_and_what_to_do(broker: BrokerProcess) -> None:
    assert "14 days" in broker.output
    code, said = towline(broker, "push", "T", "{}", "--queue", "emails", "--priority", "3")
    assert code == 2
    assert "does not offer priorities; leave it at 0, or map queue 'emails' to another" in said
    code, said = towline(broker, "job", "list")
    assert (code, said) == (2, "towline: a store of the kind 'sqs' does not offer listing jobs\n")


async def test_dead_jobs_of_a_queue_are_requeued_and_discarded(broker: BrokerProcess) -> None:
    reserve = ReserveRequest(queues=[QueueChoice(name="q")], max_jobs=9, worker_id="w")
    async with calls_to(broker.address) as calls:
        await calls.queue.Push(PushRequest(jobs=[Job(queue="q", type="T") for _ in range(3)]))
        for verb, done in (("requeue", "requeued"), ("discard", "discarded")):
            leases = (await calls.queue.Reserve(reserve)).leases
            assert len(leases) == 3
            nacks = [Nack(lease_token=each.lease_token, dead_letter=True) for each in leases]
            await calls.queue.Nack(NackRequest(nacks=nacks))
            dead = ("dead", verb, "--queue", "q", "--yes")
            code, said = await asyncio.to_thread(towline, broker, *dead)
            assert code == 0
            assert f"3 dead jobs {done}" in said
        assert (await calls.admin.Stats(StatsRequest())).total.depth.dead == 0


def test_several_processes_are_refused_since_leases_live_in_one(url: str, tmp_path: Path) -> None:
    process = start_command(["--store", url, "--processes", "2"], tmp_path)
    assert process.wait(30) == 78
    assert "is for one broker process at a time" in (tmp_path / "broker.err").read_text()
