"""What a broker says on its streams can be read by machines, and nobody has to read it."""

import json
import os
import subprocess
from pathlib import Path

from tests.support.broker_process import COMMAND, BrokerProcess, failed_start
from towline_broker.server.exits import ExitCode

#: Runs a command with all of its streams closed.
CLOSED = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")


def test_both_streams_are_json_and_tell_where_the_broker_serves(tmp_path: Path) -> None:
    with BrokerProcess("memory:", "--log-format", "json", "--http", "127.0.0.1:0") as broker:
        (said,) = map(json.loads, broker.output.splitlines())
        assert (said["event"], said["address"]) == ("serving", broker.address)
        assert said["http"].startswith("http://127.0.0.1:")
        events = [json.loads(line) for line in broker.log.splitlines()]
        (served,) = [event for event in events if event["event"] == "serving"]
        assert {name: served[name] for name in said} == said
        taken = ("--listen", broker.address, "--log-format", "json", "--store", "memory:")
        code, log = failed_start(taken, tmp_path, {})
    (told,) = map(json.loads, log.splitlines())
    assert (code, told["event"], told["code"]) == (69, "not_started", 69)
    assert "in use" in told["message"]


def test_people_are_told_where_figures_and_probes_are() -> None:
    with BrokerProcess("memory:", "--http", "127.0.0.1:0") as broker:
        (line,) = [line for line in broker.output.splitlines() if "/metrics" in line]
        assert line.startswith("  http        http://127.0.0.1:")


def test_streams_that_are_closed_are_nothing_that_is_opened_later(tmp_path: Path) -> None:
    """What a library prints would go into a store, or to a client."""
    with BrokerProcess(f"file:///{tmp_path}/jobs", run_by=CLOSED) as broker:
        streams = [str(Path(f"/proc/{broker.pid}/fd/{number}").readlink()) for number in (0, 1, 2)]
        assert streams == [os.devnull] * 3
        assert broker.stop() == ExitCode.OK


def test_a_refusal_that_nobody_hears_has_its_exit_code(tmp_path: Path) -> None:
    command = [*COMMAND, "serve", "--store", f"file:///{tmp_path}/not/there/jobs", "--http", "off"]
    broker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    assert broker.stderr is not None
    broker.stderr.close()
    assert broker.wait(60) == ExitCode.STORE_REFUSED
