"""docs/troubleshooting.md: what it says that programs say, they say."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.access.senders import Tokens
from tests.support.broker_process import COMMAND, BrokerProcess
from tests.support.certificates import Authority
from tests.support.tls_server import tls_server
from towline import Client, Job, JobRequest, Registry, Worker, current_job, job, testing
from towline.errors import TowlineError

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
SAID = re.compile(r"^\*\*`(.+)`\*\*", re.MULTILINE)
TEXTS = SAID.findall(PAGE.read_text(encoding="utf-8"))
PATIENCE = 60
WORKER = (sys.executable, "-m", "towline.cli", "worker")

JOBS = """
import os
import time

from towline import Job, job


class SendEmail(Job):
    queue = "emails"
    to: str

    def handle(self): ...


@job(queue="emails", timeout=1, max_attempts=1)
def hang():
    time.sleep(60)


@job(queue="emails", max_attempts=1)
def die():
    os._exit(9)


@job(queue="emails")
def unwritable():
    return object()
"""

registry = Registry()


class SendEmail(Job, registry=registry):
    to: str

    def handle(self) -> None: ...


class Connection:
    pass


@job(registry=registry)
async def asynchronous() -> None: ...


def told(call: Callable[[], object]) -> str:
    """What the error says."""
    with pytest.raises(TowlineError) as caught:
        call()
    return str(caught.value)


def define(source: str, **names: object) -> Callable[[], None]:
    return lambda: exec(source, {"Job": Job, "registry": registry, "__name__": "app", **names})


def said_in_programs() -> Iterator[str]:
    yield told(define("class Mail(Job, registry=registry):\n    max_retries = 3"))
    yield told(
        define(
            "class Query(Job, registry=registry):\n    connection: Connection",
            Connection=Connection,
        )
    )
    yield told(define("class SendEmail(Job, registry=registry):\n    to: str"))
    yield told(lambda: Client("redis://localhost"))
    yield told(current_job)
    with testing.broker() as towline:
        client = towline.client
        wrong: object = 5
        yield told(lambda: client.dispatch(SendEmail(to=wrong)))  # type: ignore[arg-type] # meant
        yield told(lambda: client.dispatch("X", {"text": "x" * 1_048_576}))
        yield told(lambda: client.dispatch("X", {}).result(timeout=0.1))
        yield told(
            lambda: Worker(
                towline.url, queues=["emails"], pool="process", registry=registry
            ).start()
        )
        closed = Client(towline.url)
        closed.close()
        yield told(lambda: closed.dispatch("X", {}))

    async def inside_a_loop() -> None:
        Client(testing.SyncBroker(registry=registry, errors="raise")).dispatch(asynchronous)

    yield told(lambda: asyncio.run(inside_a_loop()))


def said_without_a_broker() -> Iterator[str]:
    with Client("127.0.0.1:1") as nowhere:
        yield told(lambda: nowhere.dispatch("X", {}))
    yield told(lambda: Client("broker.internal:7480", token="secret"))
    with (
        tls_server(Authority().issue()) as address,
        Client(address, credentials=Authority().credentials()) as stranger,
    ):
        yield told(stranger.stats)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    return done.stderr.strip().partition(": ")[2]


def said_by_brokers(broker: BrokerProcess, folder: Path) -> Iterator[str]:
    serve = (*COMMAND, "serve")
    yield run(*serve, "--listen", broker.address, "--store", "memory:", folder=folder)
    yield run(*serve, "--listen", "127.0.0.1:0", "--store", broker.store, folder=folder)
    yield run(*serve, "--listen", "0.0.0.0:0", "--store", "memory:", folder=folder)
    with Client(broker.address) as client:
        client.dispatch_batch([JobRequest("X", {})] * 5, queue="full")
        yield told(lambda: client.dispatch("X", {}, queue="full", call_timeout=0.5))
        broker.send_signal(signal.SIGSTOP)
        try:
            yield told(lambda: client.dispatch("X", {}, call_timeout=0.3))
        finally:
            broker.send_signal(signal.SIGCONT)


def said_to_strangers(folder: Path) -> Iterator[str]:
    tokens = Tokens(folder / "tokens.json")
    worker = tokens.make("worker", work=["emails"])
    environment = {"TOWLINE_AUTH__TOKENS": str(tokens.path)}
    with BrokerProcess("memory:", environment=environment) as broker:
        with Client(broker.address) as client:
            yield told(lambda: client.dispatch("X", {}))
        with Client(broker.address, token=worker) as client:
            yield told(lambda: client.dispatch("X", {}))


def said_by_workers(broker: BrokerProcess, folder: Path) -> Iterator[str]:
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "jobs.py").write_text(JOBS)
    yield run(*WORKER, "app.jbos", folder=folder)
    command = (*WORKER, "app.jobs", "--pool", "process", "--url", broker.address, "--quiet")
    with (
        Client(broker.address) as client,
        subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as worker,
    ):
        try:
            wrong = [client.dispatch("SendEmail", {"to": 5}, queue="emails")]
            wrong += [client.dispatch(type, {}, queue="emails") for type in ("hang", "die")]
            wrong += [client.dispatch("unwritable", {}, queue="emails")]
            unknown = client.dispatch("SendMail", {}, queue="emails")
            for status in client.wait_all(wrong, timeout=PATIENCE):
                assert status.failure is not None
                yield status.failure.message
            for status in unknown.watch(timeout=PATIENCE):
                if status.failure is not None:
                    yield status.failure.message
                    break
        finally:
            worker.terminate()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wrong")
    environment = {"TOWLINE_CORE__MAX_QUEUE_DEPTH": "5"}
    with BrokerProcess(f"sqlite:///{folder / 'jobs.db'}", environment=environment) as broker:
        return [
            *said_in_programs(),
            *said_without_a_broker(),
            *said_by_brokers(broker, folder),
            *said_to_strangers(folder),
            *said_by_workers(broker, folder),
        ]


def test_the_page_names_what_is_said() -> None:
    assert len(TEXTS) > 20


@pytest.mark.parametrize("text", TEXTS)
def test_it_is_said_so(text: str, said: list[str]) -> None:
    pattern = ".*".join(re.escape(part) for part in text.split("…"))
    assert any(re.fullmatch(pattern, each, re.DOTALL) for each in said), "\n".join(said)
