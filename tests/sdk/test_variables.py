"""Names of environment variables that look like ours and are none."""

import logging

import pytest

from towline import variables
from towline.channel import Connection
from towline_broker.server.configuration.catalogue import all_settings

OPTIONS = ("processes", "concurrency", "pool", "queue", "drain_timeout")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TOWLINE_TOKEM", "TOWLINE_TOKEN"),
        ("TOWLINE_TOKENFILE", "TOWLINE_TOKEN_FILE"),
        ("TOWLINE_URI", "TOWLINE_URL"),
        ("TOWLINE_WORKER_PROCESES", "TOWLINE_WORKER_PROCESSES"),
        ("TOWLINE_WROKER_QUEUE", "TOWLINE_WORKER_QUEUE"),
    ],
)
def test_what_may_have_been_meant_is_told(name: str, meant: str) -> None:
    assert variables.misspelt([name], OPTIONS) == {name: meant}


def test_names_of_others_are_left_alone() -> None:
    of_the_broker = [each.variable for each in all_settings()]
    of_kubernetes = [
        f"{service}_{rest}"
        for service in ("TOWLINE", "TOWLINE_WORKER", "TOWLINE_BROKER")
        for rest in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_7480_TCP", "PORT_7480_TCP_ADDR")
    ]
    sections = [name.split("__")[0] for name in of_the_broker]
    names = [*of_the_broker, *sections, "TOWLINE_CONFIG", *of_kubernetes, "OF_THE_APP"]
    assert variables.misspelt([*names, *variables.NAMES], OPTIONS) == {}


def test_a_program_is_warned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(variables, "_warned", set())
    monkeypatch.setenv("TOWLINE_TOKEM", "twl_secret")
    with caplog.at_level(logging.WARNING, "towline"):
        Connection.to("127.0.0.1:7480")
        Connection.to("127.0.0.1:7480")
    assert caplog.messages == [
        "environment variable TOWLINE_TOKEM: no such setting; did you mean TOWLINE_TOKEN?"
    ]
