"""examples/fastapi_app: its tests pass, and progress of a job comes as server-sent events."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.examples.processes import PATIENCE, answers, copy_of, program, run_its_tests
from tests.support.broker_process import BrokerProcess
from tests.support.servers.ports import free_port


def test_its_own_tests_pass(tmp_path: Path) -> None:
    run_its_tests(copy_of("fastapi_app", tmp_path))


def test_progress_is_told_while_the_report_is_built(tmp_path: Path) -> None:
    folder = copy_of("fastapi_app", tmp_path)
    port = free_port()
    with (
        BrokerProcess("memory:") as broker,
        program(
            *("uvicorn", "fastapi_app.main:app", "--port", str(port)),
            folder=folder,
            log=tmp_path / "server.log",
            TOWLINE_URL=broker.address,
        ) as server,
        ExitStack() as stack,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as web,
    ):
        server.wait_for(lambda: answers(str(web.base_url)), "the server answers")
        ordered = web.post("/reports", json={"month": "2026-11"}).json()
        stream = events_of(web, f"/reports/{ordered['id']}/events")
        events = [next(stream)]  # it waits for a worker
        worker = ("towline.cli", "worker", "fastapi_app.jobs", "--pool", "async")
        log = tmp_path / "worker.log"
        stack.enter_context(program(*worker, folder=folder, log=log, TOWLINE_URL=broker.address))
        events += stream
        assert web.get(f"/reports/{uuid4()}/events").status_code == 404
        report = web.get(f"/reports/{ordered['id']}").json()
    assert (events[0][0], events[0][1]["state"]) == ("progress", "READY")
    shown = [data["progress"] for kind, data in events if kind == "progress"]
    assert shown == sorted(shown)
    assert any(0 < fraction < 1 for fraction in shown)
    assert events[-1] == ("ended", report)
    assert report["state"] == "SUCCEEDED"
    assert report["result"] == {"month": "2026-11", "pages": 10}


def events_of(web: httpx.Client, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    with web.stream("GET", url) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))
