"""The code of the pages for applications: recipes run, and excerpts stand in the examples."""

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.pages import DOCS, run_page

ROOT = DOCS.parent
EXCERPT = re.compile(r"^```python title=(examples/\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUEUES = ["emails", "notices", "orders", "video", "maintenance", "parts"]

FFMPEG = """\
#!/bin/sh
for target; do :; done
echo out_time_us=N/A
echo out_time_us=1000000
echo out_time_us=2000000
echo film > "$target"
"""


class Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a client needs; it knows no nobody@example.com."""

    def handle(self) -> None:
        self.say("220 ready")
        while command := self.rfile.readline().decode().strip().upper():
            if "NOBODY" in command:
                self.say("550 no such user")
            elif command.startswith("DATA"):
                self.say("354 go ahead")
                while self.rfile.readline() != b".\r\n":
                    pass
                self.say("250 accepted")
            else:
                self.say("221 bye" if command == "QUIT" else "250 fine")

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def mail_server() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mailbox) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            host, port = cast(tuple[str, int], server.server_address)
            yield f"{host}:{port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_recipes_of_the_cookbook_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = tmp_path / "bin" / "ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text(FFMPEG)
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("PATH", str(ffmpeg.parent), prepend=":")
    with BrokerProcess("memory:") as broker, mail_server() as address:
        monkeypatch.setenv("SMTP_SERVER", address)
        run_page("cookbook.md", broker.address, tmp_path, queues=QUEUES)


def test_the_page_about_frameworks_runs(tmp_path: Path) -> None:
    with BrokerProcess("memory:") as broker:
        run_page("frameworks.md", broker.address, tmp_path, queues=["guests"])


@pytest.mark.parametrize("page", ["frameworks.md"])
def test_excerpts_stand_in_the_files_that_they_name(page: str) -> None:
    excerpts = EXCERPT.findall((DOCS / page).read_text(encoding="utf-8"))
    assert excerpts
    for name, excerpt in excerpts:
        text = (ROOT / name).read_text(encoding="utf-8")
        for part in re.split(r"^ *\.\.\.\n", excerpt, flags=re.MULTILINE):
            assert part.strip("\n") in text, f"{name} reads otherwise than {page}:\n{part}"
