"""`towline top`: what is going on, on a terminal and through a pipe."""

import signal
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Line
from tests.support.broker_process import BrokerProcess
from tests.support.pages import blocks
from tests.support.terminal import Terminal, run_at_terminal
from towline import Client


def top(*arguments: str, columns: int = 200) -> AbstractContextManager[Terminal]:
    return run_at_terminal([sys.executable, "-m", "towline.cli", "top", *arguments], columns)


def test_queues_workers_and_dead_jobs_are_on_the_screen_until_q(line: Line) -> None:
    line.push(3)
    line.bury(2)
    line.reserve(1, worker_id="top-worker")
    with top("--queue", line.queue, "--interval", "100ms") as shown:
        shown.read_until("DIED")
        shown.read_until("ValueError: no such")
        assert "top-worker" in shown.text
        assert "\x1b[2J\x1b[2J crate" not in shown.raw  # what a failure says moves no cursor
        row = next(row for row in shown.text.splitlines() if row.startswith(line.queue))
        assert row.split()[1:5] == ["2", "0", "1", "2"]
        shown.type("q")
        assert shown.end() == 0


def test_rates_are_told_once_there_is_a_frame_to_compare_with(line: Line) -> None:
    line.push(1)
    with top("--queue", line.queue, "--interval", "200ms") as shown:
        shown.read_until("0/s")
        line.push(500)
        shown.read_until("501")
        shown.type("q")
        assert shown.end() == 0


def test_ctrl_c_ends_it_as_q_does(line: Line) -> None:
    line.push(1)
    with top("--queue", line.queue) as shown:
        shown.read_until("QUEUE")
        shown.process.send_signal(signal.SIGINT)
        assert shown.end() == 0
    assert "Traceback" not in shown.text


def test_a_broker_that_goes_and_comes_back_is_told_and_waited_for(tmp_path: Path) -> None:
    with BrokerProcess(f"sqlite:///{tmp_path / 'jobs.db'}", folder=tmp_path) as broker:
        with Client(broker.address) as client:
            client.dispatch("Stack", {}, queue="stays")
        with top("--url", broker.address, "--interval", "100ms", "--timeout", "1s") as shown:
            shown.read_until("stays")
            broker.kill()
            shown.read_until("trying again")
            broker.start()
            shown.raw = ""
            shown.read_until("towline-broker")
            shown.type("q")
            assert shown.end() == 0


def test_through_a_pipe_there_is_one_frame_and_it_is_not_cut(towline: Command, line: Line) -> None:
    line.push(4)
    line.bury(1)
    line.reserve(1, worker_id="top-worker")
    done = towline("top", "--queue", line.queue)
    assert done.code == 0
    assert line.queue in done.out
    assert "\x1b" not in done.out
    assert done.out.count("READY") == 1
    (shown,) = blocks("docs/commands.md", "text")
    headings = {row for row in shown.splitlines() if row.startswith(("QUEUE ", "WORKER ", "DIED "))}
    printed = [row.split() for row in done.out.splitlines()]
    assert len(headings) == 3
    assert all(heading.split() in printed for heading in headings)


def test_json_is_a_line_for_each_frame(towline: Command, line: Line) -> None:
    (job_id,) = line.bury(1)
    line.push(4)
    done = towline("top", "--queue", line.queue, "--json", "--frames", "2", "-i", "100ms")
    first, second = done.lines
    assert first["total"]["depth"] == second["total"]["depth"]
    assert first["total"]["depth"]["ready"] == 4
    assert [each["id"] for each in second["dead"]] == [job_id]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--sort", "size"), "--sort: 'size' is none of name, ready"),
        (("--interval", "1ms"), "--interval: must be at least 0.1s"),
        (("--interval", "soon"), "--interval: 'soon' is no duration"),
    ],
)
def test_wrong_usage_is_told(towline: Command, arguments: tuple[str, ...], said: str) -> None:
    done = towline("top", *arguments)
    assert done.code == 2
    assert said in done.err
