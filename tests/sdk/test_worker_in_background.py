"""A worker beside an application, if the environment says so."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.fake_broker import PATIENCE
from tests.sdk.running import fake_broker
from towline import ConfigurationError, Registry, job
from towline.worker import start_in_background

registry = Registry()


@job(registry=registry)
def quick() -> None:
    pass


@pytest.mark.parametrize("value", [None, "", "off", " OFF "])
def test_without_being_asked_for_it_there_is_no_worker(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("TOWLINE_WORKER", raising=False)
    if value is not None:
        monkeypatch.setenv("TOWLINE_WORKER", value)
    assert start_in_background("127.0.0.1:1", registry=registry) is None


def test_inline_is_a_worker_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_WORKER", "inline")
    with fake_broker() as broker:
        worker = start_in_background(broker.address, ["default"], registry=registry, guardian=False)
        assert worker is not None
        broker.ack(broker.add("quick"))
        worker.stop()


def test_any_other_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_WORKER", "yes")
    with pytest.raises(ConfigurationError, match='TOWLINE_WORKER: expected "inline" or "off"'):
        start_in_background()


APPLICATION = """
import sys, threading
from towline import job
from towline.worker import start_in_background

began = threading.Event()

@job
def slow() -> str:
    began.set()
    threading.Event().wait(0.5)
    return "done"

assert start_in_background(sys.argv[1]) is not None
assert began.wait(30)
"""


def test_when_the_application_ends_its_jobs_end_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOWLINE_WORKER", "inline")
    program = tmp_path / "application.py"
    program.write_text(APPLICATION)
    with fake_broker() as broker:
        slow = broker.add("slow")
        ended = subprocess.run([sys.executable, program, broker.address], timeout=PATIENCE)
        assert ended.returncode == 0
        assert broker.is_settled(slow)
        assert broker.ack(slow).result == b'"done"'
