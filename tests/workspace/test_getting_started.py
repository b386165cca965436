"""docs/getting-started.md, followed to the letter: each file written, each command run."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from tests.support.pages import Block, blocks_of

PAGE = "docs/getting-started.md"
BIN = Path(sys.executable).parent
#: Where the page says that the broker is.
ADDRESS = "127.0.0.1:7480"
#: What stays in a terminal of its own, by how it begins.
STAYING = ("towline-broker serve", "towline worker")
PATIENCE = 60.0


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def like(shown: str) -> "re.Pattern[str]":
    """The page has an ellipsis for what differs each time, and blanks as it likes."""
    words = (re.escape(word).replace("…", r"\S.*?") for word in shown.split())
    return re.compile(r"\s+".join(words))


class Terminal:
    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address
        self._environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "TOWLINE_LISTEN": address,
            "TOWLINE_URL": address,
            "TOWLINE_HTTP__LISTEN": "off",
            "COLUMNS": "200",
        }

    def run(self, command: str) -> str:
        """What it says on standard output."""
        ended = subprocess.run(
            ["bash", "-c", command.replace(ADDRESS, self._address)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    @contextmanager
    def staying(self, command: str, ready: str) -> Iterator[None]:
        """From when it says so on, until the end."""
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert any(ready in line for line in process.stdout), f"{command} never says {ready!r}"
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE)


def test_the_first_steps_are_as_they_are_told(tmp_path: Path) -> None:
    shell = Terminal(tmp_path, free_address())
    page = blocks_of(PAGE)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    for block in page:
        if block.language == "python":
            path = tmp_path / block.title
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
    commands = [block for block in page if block.language == "sh"]
    serve, work = (block.text.strip() for block in commands if block.text.startswith(STAYING))
    with shell.staying(serve, "listening on"), shell.staying(work, "emails"):
        for block, following in pairwise([*page, Block(PAGE, 0, "", "", "")]):
            if block not in commands or block.text.strip() in (serve, work):
                continue
            said = shell.run(block.text)
            if following.language == "text":
                assert like(following.text).search(said), f"{block.text}\nsays\n{said}"
