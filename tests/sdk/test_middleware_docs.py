"""docs/middleware.md: every block of code runs, and what it shows does what it says."""

import logging
import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.sdk.fake_broker import PATIENCE
from tests.sdk.running import fake_broker, working
from tests.support.pages import blocks
from towline import Client, Registry, job, testing
from towline.context import current_job
from towline.middleware import Logging
from towline.worker import Worker

PAGE = "docs/middleware.md"
BLOCKS = blocks(PAGE, "python")

registry = Registry()


@job(registry=registry)
def work(key: str = "") -> str:
    if key == "fail":
        raise ValueError(key)
    return current_job().headers.get("tenant", "")


class Sentry(types.ModuleType):
    """As much of sentry_sdk as the page uses."""

    def __init__(self) -> None:
        super().__init__("sentry_sdk")
        self.captured: list[BaseException] = []
        self.tags: dict[str, str] = {}

    @contextmanager
    def new_scope(self) -> Iterator["Sentry"]:
        yield self

    def set_tag(self, name: str, value: str) -> None:
        self.tags[name] = value

    def set_context(self, name: str, value: dict[str, Any]) -> None: ...

    def capture_exception(self, error: BaseException) -> None:
        self.captured.append(error)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the blocks define, run one after another; with the stand-in as ``sentry``."""
    sentry = Sentry()
    monkeypatch.setitem(sys.modules, "sentry_sdk", sentry)
    defined: dict[str, Any] = {"sentry": sentry}
    for block in BLOCKS:
        exec(compile(block, PAGE, "exec"), defined)
    return defined


def test_every_block_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", Sentry())
    assert len(BLOCKS) >= 8
    for block in BLOCKS:
        exec(compile(block, PAGE, "exec"), {})


def test_the_middleware_that_it_shows_works(
    page: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    held: set[str] = set()

    def try_lock(key: str) -> bool:
        return key not in held and not held.add(key)  # type: ignore[func-returns-value]

    lock = page["SharedLock"](try_lock, held.discard, lambda job: job.key)
    hook = page["ErrorHook"](page["report"])
    middleware = [page["Tenants"](), page["SlowOnes"](), lock, hook]
    with fake_broker() as broker, working(broker, registry, middleware=middleware) as worker:
        assert broker.ack(broker.add("work", headers={"tenant": "acme"})).result == b'"acme"'
        broker.nack(broker.add("work", b'{"key": "fail"}'))
        assert held == set()
        held.add("taken")
        assert broker.nack(broker.add("work", b'{"key": "taken"}')).HasField("release")
        worker.stop(PATIENCE)
    printed = capsys.readouterr().out
    assert all(outcome in printed for outcome in ("succeeded None", "retried fail", "released"))
    assert [str(error) for error in page["sentry"].captured] == ["fail"]
    assert page["sentry"].tags == {"job.type": "work", "job.queue": "default"}


def test_lines_of_the_log_look_as_shown(caplog: pytest.LogCaptureFixture) -> None:
    (shown,) = blocks(PAGE, "text")
    caplog.set_level(logging.INFO, "towline.jobs")
    with testing.broker() as harness:
        with Client(harness.url, middleware=[Logging()]) as client:
            client.dispatch("work", {}, queue="emails")
        harness.worker(registry=registry, middleware=[Logging()]).run_all()
    names = [re.findall(r"\w+(?==)|^\w+", line) for line in shown.splitlines()]
    # Of other loggers something may be heard after a test that ran a command.
    told = [each.getMessage() for each in caplog.records if each.name == "towline.jobs"]
    assert [re.findall(r"\w+(?==)|^\w+", message) for message in told] == names


def test_the_callbacks_that_it_shows_are_added(page: dict[str, Any]) -> None:
    assert isinstance(page["worker"], Worker)
    assert callable(page["started"])
