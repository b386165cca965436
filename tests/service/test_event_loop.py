"""A broker runs on uvloop where it is installed, and on asyncio's loop where that is wanted."""

import sys

import psutil  # type: ignore[import-untyped]  # it has no types
import pytest

from tests.support.broker_process import BrokerProcess
from towline_broker.server.event_loop import loop_factory
from towline_broker.server.exits import ConfigError


def runs_on_uvloop(pid: int) -> bool:
    return any("uvloop" in each.path for each in psutil.Process(pid).memory_maps())


@pytest.mark.parametrize(("chosen", "expected"), [("", True), ("asyncio", False)])
def test_a_broker_runs_on_the_loop_that_is_chosen(chosen: str, expected: bool) -> None:
    environment = {"TOWLINE_EVENT_LOOP": chosen} if chosen else {}
    with BrokerProcess("memory:", environment=environment) as broker:
        assert runs_on_uvloop(broker.pid) is expected
        broker.stop()
        assert broker.returncode == 0, broker.log


def test_without_uvloop_a_broker_runs_on_asyncio_unless_uvloop_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto") is None
    assert loop_factory("asyncio") is None
    with pytest.raises(ConfigError, match="event_loop: uvloop is not installed"):
        loop_factory("uvloop")
