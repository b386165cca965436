"""On a terminal: tables fit without cutting ids, bars move, questions are asked."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.conftest import Line

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self._master = master
        self.raw = ""

    @property
    def text(self) -> str:
        """What it showed, without colours and cursor moves."""
        return CODES.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, awaited: str) -> None:
        while awaited not in self.text:
            assert self._read(), f"it ended without {awaited!r}:\n{self.text}"

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait(timeout=30)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 60)
        assert ready, f"nothing more after:\n{self.text}"
        try:
            data = os.read(self._master, 4096)
        except OSError:  # how Linux says that nobody holds the other side
            return False
        self.raw += data.decode()
        return bool(data)


@contextmanager
def terminal(*arguments: str, columns: int = 100) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "towline.cli", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


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
