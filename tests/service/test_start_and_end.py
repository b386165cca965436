"""A broker as a process: how it starts, what keeps it from starting, and how it ends."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import grpc
import pytest

from tests.support.broker_process import BrokerProcess, failed_start, start_command
from tests.support.calls import Calls, calls_to
from tests.support.third_party import install
from tests.support.waiting import until
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.cli import SERVE_CODES
from towline_broker.server.exits import ExitCode

SECRET = "hunter2-payload"


def one_job(**fields: Any) -> PushRequest:
    return PushRequest(jobs=[Job(**{"type": "T", "queue": "q", **fields})])


async def stats(address: str) -> Any:
    async with calls_to(address) as calls:
        return await calls.admin.Stats(StatsRequest())


def ended(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code of a broker that should not start, and what it said."""
    return failed_start(arguments, folder, environment)


async def test_without_options_jobs_are_kept_in_this_folder(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = start_command(["--listen", "127.0.0.1:0", "--ready-file", str(ready)], tmp_path)
    try:
        while not ready.exists():
            assert process.poll() is None
            await asyncio.sleep(0.01)
        reply = await stats(ready.read_text().strip())
        assert reply.broker.driver == "sqlite"
        assert (tmp_path / "towline.db").exists()
    finally:
        process.terminate()
        assert process.wait(30) == ExitCode.OK


async def test_acknowledged_jobs_survive_a_kill(tmp_path: Path) -> None:
    with BrokerProcess(f"sqlite:///{tmp_path / 'jobs.db'}") as broker:
        async with calls_to(broker.address) as calls:
            await calls.queue.Push(PushRequest(jobs=[Job(type="T")] * 100))
        broker.kill()
        assert broker.wait() == -SIGKILL
        address = broker.address
        await asyncio.to_thread(broker.start)
        assert broker.address == address
        assert (await stats(address)).total.depth.ready == 100


def test_a_port_in_use_is_told_and_the_store_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = ended(tmp_path, "--listen", address)
    assert code == ExitCode.UNAVAILABLE
    assert said.strip().splitlines() == [
        f"towline-broker: cannot listen on {address}: the port is in use; is another broker "
        "running? Choose another with --listen HOST:PORT"
    ]
    assert not (tmp_path / "towline.db").exists()


def test_two_brokers_never_share_a_port_by_accident(tmp_path: Path) -> None:
    with BrokerProcess("memory:") as broker:
        for host in ("127.0.0.1", "localhost"):
            address = f"{host}:{broker.address.rpartition(':')[2]}"
            code, said = ended(tmp_path, "--store", "memory:", "--listen", address)
            assert code == ExitCode.UNAVAILABLE
            assert "in use" in said


def test_an_address_of_another_machine_is_told(tmp_path: Path) -> None:
    code, said = ended(tmp_path, "--store", "memory:", "--listen", "192.0.2.1:0", "--insecure")
    assert code == ExitCode.UNAVAILABLE
    assert "no such address" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_an_address_that_others_reach_is_refused(host: str, tmp_path: Path) -> None:
    code, said = ended(tmp_path, "--listen", f"{host}:0")
    assert code == ExitCode.CONFIG
    assert "--insecure" in said
    assert "neither TLS nor identities" in said
    assert not (tmp_path / "towline.db").exists()


async def test_insecure_listens_to_all_and_warns() -> None:
    with BrokerProcess("memory:", "--insecure", address="0.0.0.0:0") as broker:
        port = broker.address.rpartition(":")[2]
        assert (await stats(f"127.0.0.1:{port}")).broker.driver == "memory"
        assert "anyone who reaches" in broker.log


def test_a_store_that_is_refused_is_told(tmp_path: Path) -> None:
    code, said = ended(tmp_path, "--store", "nosuch://x", "--listen", "127.0.0.1:0")
    assert code == ExitCode.STORE_REFUSED
    for known in ("file:", "memory:", "postgresql:", "redis:", "sqlite:"):
        assert known in said
    alien = tmp_path / "alien.db"
    alien.write_bytes(b"this is no database of ours" * 100)
    code, said = ended(tmp_path, "--store", f"sqlite:///{alien}", "--listen", "127.0.0.1:0")
    assert code == ExitCode.STORE_REFUSED
    assert alien.read_bytes() == b"this is no database of ours" * 100


@pytest.mark.parametrize("url", ["sqlite:///{}/jobs.db", "file:///{}/journal"])
def test_a_store_of_another_broker_is_refused_and_that_broker_goes_on(
    url: str, tmp_path: Path
) -> None:
    store = url.format(tmp_path)
    with BrokerProcess(store) as broker:
        code, said = ended(tmp_path, "--store", store, "--listen", "127.0.0.1:0")
        assert code == ExitCode.STORE_REFUSED
        (line,) = said.strip().splitlines()
        assert f"in use by another broker (process {broker.pid})" in line
        assert "stop that one, or give this broker a store of its own" in line
        assert asyncio.run(stats(broker.address)).broker.driver == url.partition(":")[0]


def test_wrong_settings_are_all_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "towline-broker.toml").write_text("colour = 'red'\n")
    code, said = ended(tmp_path, "--listen", "nowhere", TOWLINE_DRAIN_TIMEOUT="soon")
    assert code == ExitCode.CONFIG
    for part in (
        "colour: no such setting (file towline-broker.toml, line 1)",
        "option --listen",
        "soon",
    ):
        assert part in said
    assert "Traceback" not in said


#: A driver from elsewhere, found by its entry point: at certain jobs its store fails for good, or
#: does not answer any more.
FAILING_STORE = """
import asyncio
from towline_broker.domain.errors import StoreFailed
from towline_broker.drivers.registry import create_driver

def open_store(url):
    driver = create_driver("memory:")
    push = driver.push
    async def failing_push(batch):
        if any(job.type == "Fail" for job in batch.jobs):
            raise StoreFailed("fsync: Input/output error on /a/secret/path")
        if any(job.type == "Hang" for job in batch.jobs):
            print("hanging", flush=True)
            await asyncio.sleep(3600)
        return await push(batch)
    driver.push = failing_push
    return driver
"""


@pytest.fixture
def failing(tmp_path: Path) -> dict[str, str]:
    """The environment in which there is a store failing:"""
    return install(tmp_path, "failing", FAILING_STORE)


async def test_a_store_that_fails_ends_the_broker_without_another_answer(
    failing: dict[str, str],
) -> None:
    with BrokerProcess("failing:", environment=failing) as broker:
        async with calls_to(broker.address) as calls:
            await calls.queue.Push(one_job())
            parked = asyncio.ensure_future(reserve(calls, "other"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await calls.queue.Push(one_job(type="Fail"))
            assert caught.value.code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.CANCELLED,
            )
            assert "secret" not in (caught.value.details() or "")
            with pytest.raises(grpc.aio.AioRpcError):
                await parked
        assert await asyncio.to_thread(broker.wait) == ExitCode.STORE_FAILED
        assert "the store has failed" in broker.log


async def test_a_second_signal_ends_a_drain_that_does_not_end(failing: dict[str, str]) -> None:
    with BrokerProcess("failing:", "--drain-timeout", "1h", environment=failing) as broker:
        async with calls_to(broker.address) as calls:
            hanging = asyncio.ensure_future(push(calls, one_job(type="Hang")))
            await until(lambda: said(broker, "hanging"), "the call hangs")
            broker.send_signal(SIGTERM)
            await until(lambda: said(broker, "draining"), "the broker drains")
            assert broker.returncode is None
            broker.send_signal(SIGINT)
            assert await asyncio.to_thread(broker.wait) == 128 + SIGINT
            with pytest.raises(grpc.aio.AioRpcError):
                await hanging


async def push(calls: Calls, request: PushRequest) -> Any:
    return await calls.queue.Push(request)


async def said(broker: BrokerProcess, words: str) -> bool:
    return words in broker.output + broker.log


async def reserve(calls: Calls, queue: str) -> Any:
    request = ReserveRequest(queues=[QueueChoice(name=queue)])
    request.wait.FromSeconds(60)
    return await calls.queue.Reserve(request)


async def test_logs_hold_no_payload_no_result_and_no_token(store: str) -> None:
    with BrokerProcess(store, "--log-level", "debug", "--log-format", "json") as broker:
        async with calls_to(broker.address) as calls:
            await calls.queue.Push(one_job(payload=SECRET.encode(), headers={"k": SECRET}))
            lease = (await reserve(calls, "q")).leases[0]
            ack = Ack(lease_token=lease.lease_token, result=SECRET.encode())
            await calls.queue.Ack(AckRequest(acks=[ack]))
        assert broker.stop() == ExitCode.OK
        events = [json.loads(line) for line in broker.log.splitlines()]
        methods = [event["message"] for event in events if event["logger"] == "towline.access"]
        assert any("/towline.v1.QueueService/Ack" in message for message in methods)
        assert all({"time", "level", "message"} <= set(event) for event in events)
        grant = lease.lease_token.rpartition("/")[2]
        for text in (broker.log, broker.output):
            assert SECRET not in text
            assert grant not in text


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", "from towline_broker.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "120"},
    )


def test_help_tells_options_examples_and_exit_codes() -> None:
    done = command("serve", "--help")
    assert done.returncode == 0
    for part in ("--store", "--listen", "--config", "--insecure", "Examples", "Exit codes", "78"):
        assert part in done.stdout
    for code in SERVE_CODES:
        assert str(code.value) in done.stdout
    lines = done.stdout.splitlines()
    assert "  towline-broker serve --config /etc/towline/broker.yaml --log-format json" in (
        line.removeprefix("  ") for line in lines
    )


def test_help_and_complaints_are_plain_text() -> None:
    for arguments in (["--help"], ["serve", "--help"], ["serve", "--nonsense"]):
        done = command(*arguments)
        said = done.stdout + done.stderr
        assert "--" in said
        assert said.isascii()
        assert "`" not in said
        assert "**" not in said


def test_the_command_tells_its_version_and_refuses_what_it_does_not_know() -> None:
    assert command("--version").stdout.startswith("towline-broker ")
    assert command("serve", "--nonsense").returncode == 2
    assert command("nonsense").returncode == 2
