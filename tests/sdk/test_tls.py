"""The way to a broker over TLS, and what is said where certificates or settings do not fit."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.sdk.both_clients import answer, connected
from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority
from tests.support.tls_server import tls_server
from towline import (
    AsyncClient,
    BrokerUnavailable,
    Client,
    ConfigurationError,
    HandshakeFailed,
    TlsCredentials,
)
from towline.channel import Connection
from towline.v1.queue_service_pb2 import HeartbeatRequest
from towline.worker.link import Backoff, Link

AUTHORITY, STRANGER = Authority(), Authority("Another one")
BROKER = AUTHORITY.issue()
#: Of a call that is given up because a certificate does not fit; gRPC repeats it for some seconds.
SOON = 8.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a broker that speaks TLS."""
    cert, key = BROKER.write(tmp_path_factory.mktemp("broker"))
    with BrokerProcess("memory:", "--tls-cert", str(cert), "--tls-key", str(key)) as broker:
        yield broker.address


def failure(connection: Connection) -> Exception:
    """Of a call that nothing repeats."""
    with connection.open() as channel:
        call: Any = channel.unary_unary("/towline.v1.AdminService/PurgeQueue")
        with pytest.raises(BrokerUnavailable) as caught, connection.errors():
            call(b"", timeout=10)
    return caught.value


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("prefix", ["grpcs://", "", "dns:///"])
async def test_jobs_go_over_tls(
    kind: type[Client] | type[AsyncClient], prefix: str, address: str
) -> None:
    async with connected(kind, prefix + address, credentials=AUTHORITY.credentials()) as client:
        handle = await answer(client.dispatch("Greet", queue="tls"))
        status = await answer(client.get(handle.id))
        assert status.queue == "tls"


def test_the_environment_says_whom_to_trust(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_CA", str(AUTHORITY.write(tmp_path)))
    for url in (f"grpcs://{address}", address):
        monkeypatch.setenv("TOWLINE_URL", url)
        with Client() as client:
            client.stats()


def test_grpc_in_the_address_means_no_tls_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_CA", str(AUTHORITY.write(tmp_path)))
    assert Connection.to("grpc://broker:1").credentials is None
    with pytest.raises(ConfigurationError, match="grpc://broker:1 asks for no TLS"):
        Connection.to("grpc://broker:1", credentials=TlsCredentials())


def test_a_certificate_of_its_own_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = AUTHORITY.issue("worker-1").write(tmp_path, "worker")
    ca = AUTHORITY.write(tmp_path)
    for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
        monkeypatch.setenv(f"TOWLINE_{name}", str(path))
    expected = TlsCredentials.from_files(ca, cert=cert, key=key)
    with tls_server(BROKER, AUTHORITY) as address:
        connection = Connection.to(address)
        assert connection.credentials == expected
        with connection.open() as channel:
            grpc.channel_ready_future(channel).result(timeout=10)


def test_the_name_of_the_broker_can_be_another_than_the_addresss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tls_server(AUTHORITY.issue("broker", ["broker.internal"])) as address:
        wrong = Connection.to(address, credentials=AUTHORITY.credentials())
        error = failure(wrong)
        assert isinstance(error, HandshakeFailed)
        assert f"the certificate of the broker at {address} is for another name" in str(error)
        assert "TOWLINE_SERVER_NAME" in str(error)
        named = TlsCredentials(AUTHORITY.pem, server_name="broker.internal")
        # A list of addresses, too, has a name only if it is given one.
        for target in (address, f"ipv4:{address}"):
            with Connection.to(target, credentials=named).open() as channel:
                grpc.channel_ready_future(channel).result(timeout=10)


@pytest.mark.parametrize("name", ["Another one", "Test authority"])
def test_who_is_not_trusted_is_told_with_what_to_set(name: str) -> None:
    """Also if the authority is called like the one that is trusted."""
    with tls_server(BROKER) as address:
        error = failure(Connection.to(address, credentials=Authority(name).credentials()))
        assert isinstance(error, HandshakeFailed)
        assert "is not vouched for by an authority that is trusted here" in str(error)
        assert "TOWLINE_CA" in str(error)


def test_a_certificate_that_has_run_out_is_told() -> None:
    with tls_server(AUTHORITY.issue(ends=timedelta(days=-1))) as address:
        error = failure(Connection.to(address, credentials=AUTHORITY.credentials()))
        assert isinstance(error, HandshakeFailed)
        assert f"the certificate of the broker at {address} has run out" in str(error)


def test_tls_to_who_speaks_none_is_told() -> None:
    with tls_server(None) as address:
        error = failure(Connection.to(f"grpcs://{address}"))
        assert isinstance(error, HandshakeFailed)
        assert f"who answers at {address} does not speak TLS" in str(error)
        assert f"grpc://{address}" in str(error)


def test_no_tls_to_who_speaks_it_is_told() -> None:
    with tls_server(BROKER) as address:
        assert f"if it speaks TLS, write grpcs://{address}" in str(failure(Connection.to(address)))


def test_a_client_without_a_certificate_where_one_is_asked_for_is_told() -> None:
    with tls_server(BROKER, AUTHORITY) as address:
        bare = failure(Connection.to(address, credentials=AUTHORITY.credentials()))
        assert "name yours in TOWLINE_CERT and TOWLINE_KEY" in str(bare)
        strangers = AUTHORITY.credentials(STRANGER.issue("worker-1"))
        refused = failure(Connection.to(address, credentials=strangers))
        assert "hangs up when it has seen the certificate of this client" in str(refused)


def test_a_client_does_not_wait_for_what_cannot_come_about() -> None:
    with (
        tls_server(BROKER) as address,
        Client(address, credentials=STRANGER.credentials(), call_timeout=60) as client,
    ):
        began = time.monotonic()
        with pytest.raises(HandshakeFailed):
            client.dispatch("Greet")
        with pytest.raises(HandshakeFailed):
            client.wait("0192f0c1-2345-7abc-8def-0123456789ab", timeout=60)
        assert time.monotonic() - began < 2 * SOON


def test_a_worker_that_goes_on_trying_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with tls_server(BROKER) as address:
        connection = Connection.to(address, credentials=STRANGER.credentials())
        told: list[BaseException] = []
        with connection.open() as channel:
            link = Link(channel, connection, told.append)
            with pytest.raises(HandshakeFailed) as caught:
                link.heartbeat(HeartbeatRequest(), timeout=30)
            link.failed("Heartbeat", caught.value, Backoff())
            link.failed("Heartbeat", caught.value, Backoff())
    assert told == [caught.value]
    [line] = caplog.messages
    assert "trying until it answers (the certificate of the broker" in line


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CA": "nowhere.pem"}, "TOWLINE_CA: cannot read nowhere.pem: No such file"),
        ({"CA": __file__ + "x"}, "TOWLINE_CA: cannot read"),
        ({"CA": "/dev/null"}, "TOWLINE_CA: /dev/null is no PEM file"),
        ({"CERT": "a.pem"}, "TOWLINE_CERT and TOWLINE_KEY go together"),
        ({"KEY": "a.pem"}, "TOWLINE_CERT and TOWLINE_KEY go together"),
    ],
)
def test_files_that_are_no_good_are_named(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"TOWLINE_{name}", value)
    with pytest.raises(ConfigurationError, match=message):
        Client("127.0.0.1:1")
