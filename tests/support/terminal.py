"""A command with a terminal of its own."""

import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
def run_at_terminal(command: Sequence[str], columns: int = 100) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command,
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
