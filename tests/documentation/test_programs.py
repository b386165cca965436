"""The Python of each page is a program that runs, against a real broker.

The blocks of a page are one program, in their order, beside a worker of the queues that they
dispatch to; on some pages each block is a program of its own. Blocks with the title ``app/...`` are
the files of an application that the program imports.
"""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from tests.documentation.takers import taken_by
from tests.support.broker_process import BrokerProcess
from towline import Client
from towline.v1.admin_service_pb2 import ListQueuesRequest, PurgeQueueRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub

#: The address that pages name; in the program it is that of the broker.
ADDRESS = "127.0.0.1:7480"
PATIENCE = 90

_WORKER = """
import towline

_worker = towline.Worker({address!r}, queues={queues!r}, concurrency=2)
_worker.start()
"""
_STOP = """
_worker.stop(0)
"""


class Page(NamedTuple):
    """``queues``: those of the worker beside it, if there is to be one. ``alone``: the blocks, by
    their number, that are programs of their own. ``before`` and ``after``: what else is run."""

    queues: tuple[str, ...] = ()
    alone: tuple[int, ...] = ()
    before: str = ""
    after: str = ""


#: Workers of these programs would run until they are stopped.
_UNTIL_EMPTY = """
import functools
import towline
towline.Worker.__init__ = functools.partialmethod(towline.Worker.__init__, stop_when_empty=True)
"""
_RUN_THE_HANDLER = """
from towline import Job, testing

class Import(Job):
    rows: list[str]
    handle = handle

with testing.broker() as _harness:
    Import(rows=["a", "b"]).dispatch()
    [_attempt] = _harness.worker().run_all()
    assert _attempt.outcome == "succeeded"
"""

PAGES = {
    "README.md": Page(("emails", "reports")),
    "client/README.md": Page(("emails", "reports")),
    "docs/best-practices.md": Page(("default", "emails", "imports")),
    "docs/coming-from.md": Page(
        ("default", "emails", "payments", "critical", "reports", "maintenance")
    ),
    "docs/cookbook.md": Page(("emails", "notices", "orders", "video", "maintenance", "parts")),
    "docs/dispatch.md": Page(("emails", "reports")),
    "docs/frameworks.md": Page(("guests",)),
    "docs/jobs.md": Page(("default",)),
    "docs/streams.md": Page(),
    # Nothing may have connected before the second one forks.
    "docs/workers.md": Page(before=_UNTIL_EMPTY, alone=(1,), after=_RUN_THE_HANDLER),
}
BLOCKS = taken_by(__file__)

JOBS = """
from towline import Job

class SendEmail(Job):
    queue = "emails"
    to: str
    def handle(self): ...
"""

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


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as running:
        yield running


@pytest.fixture
def address(broker: BrokerProcess) -> Iterator[str]:
    """That of the broker; what a page has left in its queues is gone at the next."""
    yield broker.address
    with Client(broker.address) as client:
        admin = AdminServiceStub(client.channel)
        for queue in admin.ListQueues(ListQueuesRequest()).queues:
            admin.PurgeQueue(PurgeQueueRequest(queue=queue.name))


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an application in it, and what recipes need beside a broker."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "jobs.py").write_text(JOBS)
    ffmpeg = tmp_path / "bin" / "ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text(FFMPEG)
    ffmpeg.chmod(0o755)
    monkeypatch.setenv("PATH", str(ffmpeg.parent), prepend=":")
    with mail_server() as address:
        monkeypatch.setenv("SMTP_SERVER", address)
        yield tmp_path


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_the_code_of_a_page_runs(page: str, address: str, surroundings: Path) -> None:
    program: list[str] = []
    for block in [block for block in BLOCKS if block.page == page]:
        if block.title:
            (surroundings / block.title).write_text(block.text)
        else:
            program.append(block.text)
    how = PAGES[page]
    for number in how.alone:
        run([how.before, program[number]], address, surroundings)
    together = [text for number, text in enumerate(program) if number not in how.alone]
    if how.queues:
        worker = _WORKER.format(address=address, queues=[*how.queues])
        together = [worker, *together, _STOP]
    run([how.before, *together, how.after], address, surroundings)


def run(parts: list[str], address: str, folder: Path) -> None:
    program = folder / "page.py"
    program.write_text("\n".join(parts).replace(ADDRESS, address), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
