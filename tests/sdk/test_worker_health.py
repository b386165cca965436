"""What probes are told: whether a worker is alive, and whether it takes jobs."""

import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.fake_broker import PATIENCE
from tests.sdk.running import fake_broker, working
from tests.support.broker_process import BrokerProcess
from towline import ConfigurationError, Registry, Worker, job
from towline.v1.queue_service_pb2 import WorkerDirective
from towline.worker import health, watch

registry = Registry()
go_on = threading.Event()
started = threading.Event()


@job(registry=registry)
async def block() -> None:
    started.set()
    assert go_on.wait(PATIENCE)


@job(registry=registry)
def run() -> None:
    started.set()
    assert go_on.wait(PATIENCE)


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(watch, "TICK", 0.05)
    monkeypatch.setattr(health, "FILE_INTERVAL", 0.2)
    go_on.clear()
    started.clear()
    yield
    go_on.set()


def get(worker: Worker, path: str, method: str = "GET") -> tuple[int, dict[str, Any]]:
    port = worker.health_port
    assert port is not None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else {}
    finally:
        connection.close()


def eventually(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def test_a_worker_is_ready_while_its_broker_answers_and_alive_in_any_case(tmp_path: Path) -> None:
    file = tmp_path / "health"
    with BrokerProcess(f"sqlite:///{tmp_path / 'jobs.db'}", folder=tmp_path) as server:
        worker = Worker(
            server.address,
            registry=registry,
            health_port=0,
            health_file=file,
            guardian=False,
        )
        with worker:
            eventually(lambda: get(worker, "/readyz")[0] == 200)
            told = get(worker, "/livez")[1]
            assert told == {
                "live": True,
                "ready": True,
                "problems": [],
                "worker_id": worker.worker_id,
                "pid": os.getpid(),
                "running": 0,
                "abandoned": 0,
            }
            server.stop()
            eventually(lambda: get(worker, "/readyz")[0] == 503)
            status, told = get(worker, "/livez")
            assert (status, told["live"], told["ready"]) == (200, True, False)
            assert told["problems"] == ["the broker cannot be reached"]
            # The file stays young: a restart of the worker would help nobody.
            eventually(lambda: not json.loads(file.read_text())["ready"])
            written = file.stat().st_mtime_ns
            eventually(lambda: file.stat().st_mtime_ns > written)
            server.start()
            eventually(lambda: get(worker, "/readyz")[0] == 200)
            eventually(lambda: json.loads(file.read_text())["ready"])
        assert not file.exists()
        assert [entry for entry in tmp_path.iterdir() if "health" in entry.name] == []


def test_before_the_first_answer_of_the_broker_it_is_not_ready() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        Worker(
            f"127.0.0.1:{mute.getsockname()[1]}",
            registry=registry,
            health_port=0,
            guardian=False,
        ) as worker,
    ):
        status, told = get(worker, "/readyz")
        assert status == 503
        assert told["problems"] == ["the broker has not answered yet"]
        assert get(worker, "/livez")[0] == 200


def test_a_worker_that_finishes_its_jobs_is_alive_and_not_ready(tmp_path: Path) -> None:
    file = tmp_path / "health"
    with (
        fake_broker() as broker,
        working(broker, registry, health_port=0, health_file=str(file)) as worker,
    ):
        broker.add("run")
        assert started.wait(PATIENCE)
        worker.stop(PATIENCE, wait=False)
        status, told = get(worker, "/readyz")
        assert status == 503
        assert told["problems"] == ["it is stopping"]
        assert told["running"] == 1
        assert get(worker, "/livez")[0] == 200
        assert file.exists()
        go_on.set()
        assert worker.join(PATIENCE)
        assert not file.exists()
        assert worker.health_port is None or not _listens(worker.health_port)


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def test_a_quiet_worker_is_not_ready() -> None:
    with fake_broker() as broker, working(broker, registry, lease=1, health_port=0) as worker:
        eventually(lambda: get(worker, "/readyz")[0] == 200)
        broker.add("run")  # keeps its heartbeats frequent
        broker.directive = WorkerDirective.WORKER_DIRECTIVE_QUIET
        eventually(lambda: get(worker, "/readyz")[0] == 503)
        assert get(worker, "/readyz")[1]["problems"] == ["the broker told it to be quiet"]


def test_a_worker_whose_loop_is_blocked_for_too_long_is_not_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SILENT_AFTER", 1.0)
    monkeypatch.setattr(watch, "BLOCKED_AFTER", 0.3)
    file = tmp_path / "health"
    with (
        fake_broker() as broker,
        working(broker, registry, pool="async", lease=1, health_port=0, health_file=file) as worker,
    ):
        broker.add("block")
        assert started.wait(PATIENCE)
        eventually(lambda: get(worker, "/livez")[0] == 503)
        assert any(
            "event loop has been blocked" in why for why in get(worker, "/livez")[1]["problems"]
        )
        eventually(lambda: not file.exists())
        go_on.set()
        eventually(lambda: get(worker, "/livez")[0] == 200)
        eventually(file.exists)


def test_heartbeats_that_stop_make_a_worker_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_broker() as broker, working(broker, registry, health_port=0) as worker:
        eventually(lambda: get(worker, "/livez")[0] == 200)
        monkeypatch.setattr(health, "SILENT_AFTER", 0.0)
        status, told = get(worker, "/livez")
        assert status == 503
        assert any(why.startswith("no heartbeat was sent for") for why in told["problems"])


def test_the_file_tells_at_once_that_the_worker_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FILE_INTERVAL", 1000.0)
    file = tmp_path / "health"
    with fake_broker() as broker, working(broker, registry, health_file=file):
        eventually(lambda: json.loads(file.read_text())["ready"])


def test_the_file_is_whole_whenever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TICK", 0.001)
    monkeypatch.setattr(health, "FILE_INTERVAL", 0.0)
    file = tmp_path / "health"
    with fake_broker() as broker, working(broker, registry, health_file=file):
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert json.loads(file.read_text())["live"] is True
        assert age(file) < 5


def test_only_two_paths_are_there_and_head_is_answered() -> None:
    with fake_broker() as broker, working(broker, registry, health_port=0) as worker:
        assert get(worker, "/")[0] == 404
        assert get(worker, "/livez?verbose")[0] == 200
        assert get(worker, "/livez", "HEAD") == (200, {})
        assert get(worker, "/livez", "POST")[0] == 501


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"health_port": 65536}, "health_port: expected a number from 0 to 65535, got 65536"),
        ({"health_port": "8080"}, "health_port: expected a number"),
        ({"health_host": ""}, "health_host: expected a name or an address"),
        ({"health_file": ""}, "health_file: expected a path, got ''"),
        ({"health_file": 5}, "health_file: expected a path, got 5"),
        ({"health_port": 0, "processes": 2}, "health_port: are for one process"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Worker(**settings)


def test_what_cannot_be_done_is_said_before_any_job_is_taken(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such" / "folder"
    with fake_broker() as broker, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, message in (
            ({"health_file": missing}, "health_file: .* cannot be written: No such file"),
            ({"health_port": port}, f"health_port: cannot listen on 127.0.0.1:{port}"),
        ):
            worker = Worker(broker.address, registry=registry, **settings)
            with pytest.raises(ConfigurationError, match=message):
                worker.start()
            assert not worker.running
            with pytest.raises(ConfigurationError, match=message):
                worker.run()
        assert broker.reserves == []
