"""Certificates of clients are renewed while programs run: nothing is started anew."""

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority
from tests.support.tls_server import tls_server
from tests.support.waiting import until
from towline import AsyncClient, Client, TlsCredentials, Worker, job, renewing
from towline.channel import Connection
from towline.registry import Registry

OLD, NEW = Authority("Old"), Authority("New")
METHOD = "/towline.v1.AdminService/Stats"


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "LOOK_EVERY", 0.0)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with all that a client shows and trusts, by the old authority."""
    write(tmp_path, OLD)
    return tmp_path


def write(folder: Path, authority: Authority) -> None:
    """As tools for renewals do it: what is there is replaced whole, the key first."""
    authority.issue("mailer").write(folder, "client")
    partial = folder / "ca.partial"
    partial.write_bytes(authority.pem)
    partial.replace(folder / "ca.pem")


def credentials(folder: Path) -> TlsCredentials:
    cert, key = folder / "client.pem", folder / "client.key"
    return TlsCredentials.from_files(folder / "ca.pem", cert=cert, key=key)


class MutualTls:
    """A broker that asks clients for certificates, and can be given another authority for all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        OLD.issue().write(folder)
        OLD.write(folder, "clients")
        cert, key, clients = folder / "broker.pem", folder / "broker.key", folder / "clients.pem"
        options = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(clients))
        self.process = BrokerProcess(f"sqlite:///{folder / 'jobs.db'}", *options)

    @property
    def address(self) -> str:
        return self.process.address

    def go_over_to(self, authority: Authority) -> None:
        """Started anew, so that no connection stands: the old authority counts nowhere."""
        self.process.stop()
        authority.issue().write(self._folder)
        authority.write(self._folder, "clients")
        self.process.start()


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MutualTls]:
    made = MutualTls(tmp_path_factory.mktemp("broker"))
    with made.process:
        yield made


async def test_clients_and_workers_outlive_the_authority_that_they_began_with(
    broker: MutualTls, files: Path
) -> None:
    registry, greeted = Registry(), threading.Semaphore(0)

    @job(type="Greet", registry=registry)
    def greet() -> None:
        greeted.release()

    async def all_greeted(count: int) -> None:
        for _ in range(count):
            assert await asyncio.to_thread(greeted.acquire, timeout=30)

    shown = credentials(files)
    async with AsyncClient(broker.address, credentials=shown) as async_client:
        with (
            Client(broker.address, credentials=shown) as client,
            Worker(client, ["default"], registry=registry, concurrency=1),
        ):
            for authority in (OLD, NEW):
                if authority is NEW:
                    write(files, NEW)
                    await asyncio.to_thread(broker.go_over_to, NEW)
                await async_client.dispatch("Greet", queue="default")
                await asyncio.to_thread(lambda: client.dispatch("Greet", queue="default"))
                await all_greeted(2)


class Slow:
    """A server over TLS whose answers wait until they are let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self.begun.set()
        assert self.go.wait(30)
        return b""


async def test_calls_under_way_come_to_their_end_and_then_the_channel_is_closed(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[grpc.Channel] = []
    original = grpc.secure_channel

    def open_(*args: Any, **options: Any) -> grpc.Channel:
        opened.append(original(*args, **options))
        return opened[-1]

    monkeypatch.setattr(grpc, "secure_channel", open_)
    slow = Slow()
    with tls_server(OLD.issue(), handler=slow) as address:
        connection = Connection.to(address, credentials=credentials(files))
        with connection.open() as channel:
            call: Any = channel.unary_unary(METHOD)

            async def closed() -> bool:
                return is_closed(opened[0])

            running = call.future(b"", timeout=30)
            assert slow.begun.wait(30)
            (files / "ca.pem").write_bytes(OLD.pem + NEW.pem)
            slow.begun.clear()
            other = call.future(b"", timeout=30)
            assert slow.begun.wait(30)
            assert len(opened) == 2
            slow.go.set()
            assert running.result() == other.result() == b""
            await until(closed, "the first is closed")
            assert not is_closed(opened[1])
            assert call(b"", timeout=30) == b""
        assert is_closed(opened[1])


def is_closed(channel: grpc.Channel) -> bool:
    method: Any = channel.unary_unary(METHOD)
    try:
        method.future(b"", timeout=0.001).cancel()
    except ValueError:  # gRPC's way to say so
        return True
    return False


def test_half_of_a_new_pair_is_told_once_and_the_whole_taken(
    files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "towline")
    new = NEW.issue("mailer")
    with tls_server(OLD.issue(), OLD) as address:
        connection = Connection.to(address, credentials=credentials(files))
        with connection.open() as channel:
            call: Any = channel.unary_unary("/nobody.knows/This")

            def reached() -> bool:
                with pytest.raises(grpc.RpcError) as refused:
                    call(b"", timeout=10)
                return bool(refused.value.code() is grpc.StatusCode.UNIMPLEMENTED)

            assert reached()
            for tail in (b"", b"\n"):
                (files / "client.key").write_bytes(new.key + tail)
                assert reached()
            (told,) = caplog.messages
            assert "client.pem and" in told
            assert "do not go together: KEY_VALUES_MISMATCH" in told
            assert told.endswith("what was read before stays in use")
            (files / "client.pem").write_bytes(new.cert)
            assert not reached()  # which its server does not know
            assert "calls go by the new ones" in caplog.messages[-1]


def test_another_process_is_told_of_the_files_too(files: Path) -> None:
    told = json.loads(json.dumps(credentials(files).hand_over()))
    handed = TlsCredentials.handed_over(told)
    assert handed == credentials(files)
    write(files, NEW)
    assert handed.read_again() == credentials(files) != handed


def test_what_did_not_come_from_files_stays_as_it_is() -> None:
    given = TlsCredentials(OLD.pem)
    assert not given.from_any_file
    assert given.read_again() is given
