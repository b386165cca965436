"""On a terminal: tables fit without cutting ids, bars move, questions are asked."""

import signal
import sys
import time
from contextlib import AbstractContextManager

from tests.cli.conftest import Line
from tests.support.terminal import Terminal, run_at_terminal


def terminal(*arguments: str, columns: int = 100) -> AbstractContextManager[Terminal]:
    return run_at_terminal([sys.executable, "-m", "towline.cli", *arguments], columns)


def test_a_narrow_table_shrinks_the_failure_and_never_an_id(line: Line) -> None:
    ids = line.bury(2)
    with terminal("dead", "list", "--queue", line.queue, columns=60) as shown:
        assert shown.end() == 0
    for job_id in ids:
        assert job_id in shown.text
    assert line.queue in shown.text
    assert "ValueError:…" in shown.text
    assert "\x1b[2J" not in shown.raw
    assert "\x1b[31m" in shown.raw


def test_figures_fold_where_the_terminal_is_narrow(line: Line) -> None:
    line.push(2)
    with terminal("stats", "--queue", line.queue, columns=80) as shown:
        assert shown.end() == 0
    assert all(len(row) <= 80 for row in shown.text.splitlines() if not row.startswith("store "))
    headings = [row.split() for row in shown.text.splitlines() if row.startswith("QUEUE ")]
    assert len(headings) > 1
    assert {"READY", "PUSHED", "P95"} <= {name for heading in headings for name in heading}
    with terminal("stats", "--queue", line.queue, columns=160) as shown:
        assert shown.end() == 0
    assert shown.text.count("QUEUE ") == 1


def test_a_question_is_asked_and_no_changes_nothing(line: Line) -> None:
    line.push(3)
    with terminal("purge", line.queue) as asked:
        asked.read_until(f"Remove 3 waiting jobs from {line.queue} for good? [y/N]: ")
        asked.type("n\n")
        assert asked.end() == 1
    assert "nothing was changed" in asked.text
    with terminal("purge", line.queue) as asked:
        asked.read_until("[y/N]: ")
        asked.type("y\n")
        assert asked.end() == 0
    assert f"3 waiting jobs removed from {line.queue}" in asked.text


def test_long_work_shows_a_bar(line: Line) -> None:
    line.push_batch(2500)
    with terminal("purge", line.queue, "--yes") as shown:
        assert shown.end() == 0
    assert "━" in shown.text
    assert "/2500" in shown.text


def test_ctrl_c_is_exit_code_130_without_a_trace(line: Line) -> None:
    line.push(1, delay=3600)
    with terminal("drain", line.queue) as waiting:
        waiting.read_until(f"drain {line.queue[:20]}")
        time.sleep(0.2)  # into the loop that waits; a signal anywhere else is as good
        waiting.process.send_signal(signal.SIGINT)
        assert waiting.end() == 130
    assert "Traceback" not in waiting.text
