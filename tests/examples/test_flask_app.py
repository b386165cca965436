"""examples/flask_app: its tests pass, and gunicorn serves it beside a worker of the same app."""

from pathlib import Path

import httpx

from tests.examples.processes import answers, copy_of, program, run_its_tests
from tests.support.broker_process import BrokerProcess
from tests.support.servers.ports import free_port


def test_its_own_tests_pass(tmp_path: Path) -> None:
    run_its_tests(copy_of("flask_app", tmp_path))


def test_entries_are_written_under_gunicorn_and_checked_by_its_worker(tmp_path: Path) -> None:
    folder = copy_of("flask_app", tmp_path)
    url = f"http://127.0.0.1:{(port := free_port())}/entries"
    with (
        BrokerProcess("memory:") as broker,
        program(
            *("gunicorn", "flask_app:create_app()", "--workers", "2", "--preload"),
            *("--bind", f"127.0.0.1:{port}", "--no-control-socket"),
            folder=folder,
            log=tmp_path / "server.log",
            TOWLINE_URL=broker.address,
        ) as server,
        program(
            *("flask", "--app", "flask_app", "worker"),
            folder=folder,
            log=tmp_path / "worker.log",
            TOWLINE_URL=broker.address,
        ) as worker,
    ):
        server.wait_for(lambda: answers(url), "the server answers")
        for text in ("Hello", "Win in our CASINO", "Bye"):
            assert httpx.post(url, data={"text": text}).status_code == 202
        worker.wait_for(lambda: worker.output.count("CheckEntry") >= 3, "all are checked")
        shown = httpx.get(url).json()["entries"]
    assert [entry["text"] for entry in shown] == ["Hello", "Bye"]
