"""The token of a client: sent with each call, read again, and never where others could see it."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from towline import AsyncClient, BearerToken, Client, ConfigurationError, Worker, bearer, clients
from towline.channel import Connection
from towline.worker import guardian_process
from towline.worker.guardian import Guardian
from towline.worker.ledger import Ledger

SECRET = "tl_hunter2-secret"
HEADER = f"Bearer {SECRET}"


class Listener(grpc.GenericRpcHandler):
    """Answers every call with nothing, and notes its ``authorization``."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, ...]] = []
        self.lock = threading.Lock()
        self.called = threading.Event()

    def service(self, details: Any) -> Any:
        found = [value for key, value in details.invocation_metadata if key == "authorization"]
        with self.lock:
            self.heard.append(tuple(found))
        self.called.set()
        if details.method.endswith("Streams"):
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: iter([b""]))
        return grpc.unary_unary_rpc_method_handler(lambda request, _: b"")


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def address(listener: Listener) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers([listener])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_every_call_of_a_client_has_it(address: str, listener: Listener) -> None:
    with Client(address, token=SECRET) as client:
        client.stats()
        client.cancel("0192f0c1-2345-7abc-8def-0123456789ab")
        channel: Any = client.channel
        assert channel.unary_unary("/any/Unary").with_call(b"", timeout=5)[0] == b""
        assert channel.unary_unary("/any/Unary").future(b"", 5).result() == b""
        assert list(channel.stream_stream("/any/Streams")(iter([b""]), timeout=5)) == [b""]
        channel.unary_unary("/any/Unary")(b"", metadata=(("authorization", "mine"),))
        channel.unary_unary("/any/Unary")(b"", metadata=(("other", "mine"),))
    assert listener.heard == [(HEADER,)] * 5 + [("mine",), (HEADER,)]


async def test_every_call_of_an_async_client_has_it(address: str, listener: Listener) -> None:
    async with AsyncClient(address, token=SECRET) as client:
        await client.stats()
        channel: Any = client.channel
        assert await channel.unary_unary("/any/Unary")(b"", timeout=5) == b""
        more = grpc.aio.Metadata(("other", "mine"))
        await channel.unary_unary("/any/Unary")(b"", metadata=more)
        assert [each async for each in channel.stream_stream("/any/Streams")(iter([b""]))] == [b""]
    assert listener.heard == [(HEADER,)] * 4


def test_a_worker_and_its_guardian_have_it(
    address: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_TOKEN", f" {SECRET}\n")
    worker = Worker(address, ["q"], guardian=False, wait=0)
    worker.start()
    assert listener.called.wait(30)
    worker.stop(0)
    ledger = Ledger(slots=1, usual_lease=10)
    connection = Connection.to(address)
    message = Guardian(connection, ledger, Worker(address, lease=10)._options).message
    ledger.close()
    count = len(listener.heard)
    guardian_process.connect(message).heartbeat(["unknown"], 10)
    assert len(listener.heard) > count
    assert set(listener.heard) == {(HEADER,)}


def test_a_file_is_read_again_when_it_changes(
    address: str,
    listener: Listener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(bearer, "LOOK_EVERY", 0.0)
    file = tmp_path / "token"
    file.write_text("first\n")
    monkeypatch.setenv("TOWLINE_TOKEN_FILE", str(file))
    with Client(address) as client:
        client.stats()
        file.write_text("second-one\n")
        client.stats()
        # Half of a change, such as a file that is being written, is passed over.
        file.write_text("")
        client.stats()
        file.unlink()
        client.stats()
        file.write_text("third")
        client.stats()
    heard = ["first", "second-one", "second-one", "second-one", "third"]
    assert listener.heard == [(f"Bearer {each}",) for each in heard]
    assert "the token that was read before stays in use" in caplog.text
    assert "second-one" not in caplog.text


@pytest.mark.parametrize(
    "target",
    ["127.0.0.1:1", "127.8.0.9:1", "localhost:1", "[::1]:1", "dns:///localhost:1",
     "ipv4:127.0.0.1:1,127.0.0.2:1", "unix:/run/towline.sock", "grpc://127.0.0.1:1"],
)  # fmt: skip
def test_without_tls_it_may_stay_on_this_machine(target: str) -> None:
    assert Connection.to(target, token=SECRET).token == BearerToken(SECRET)


@pytest.mark.parametrize(
    "target",
    ["broker:1", "10.0.0.5:1", "grpc://broker:1", "[::]:1", "[2001:db8::1]:1", "127.0.0.1.evil:1",
     "localhost.evil:1", "dns:///broker:1", "dns://10.0.0.5/localhost:1", "0.0.0.0:1",
     "ipv4:127.0.0.1:1,10.0.0.5:1", "xds:///localhost:1"],
)  # fmt: skip
def test_without_tls_it_does_not_leave_this_machine(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="reached without TLS") as caught:
        Client(target, token=SECRET)
    assert "grpcs://" in str(caught.value)
    assert "TOWLINE_INSECURE_TOKEN=1" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert Connection.to(target, token=BearerToken(SECRET, insecure=True)).token is not None
    monkeypatch.setenv("TOWLINE_TOKEN", SECRET)
    with pytest.raises(ConfigurationError, match="reached without TLS"):
        Client(target)
    monkeypatch.setenv("TOWLINE_INSECURE_TOKEN", "1")
    Client(target)


def test_over_tls_it_goes_anywhere() -> None:
    assert Connection.to("grpcs://broker:1", token=SECRET).token == BearerToken(SECRET)


def test_it_does_not_show() -> None:
    token = BearerToken(SECRET)
    connection = Connection.to("127.0.0.1:1", token=token)
    for shown in (token, connection, Client("127.0.0.1:1", token=token)):
        assert SECRET not in f"{shown!r}{shown}"
    with pytest.raises(ConfigurationError) as caught:
        BearerToken(SECRET + "\n" + SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TOKEN": "a b"}, "TOWLINE_TOKEN: expected a token"),
        ({"TOKEN": "ä"}, "TOWLINE_TOKEN: expected a token"),
        ({"TOKEN": "a", "TOKEN_FILE": "b"}, "set one of TOWLINE_TOKEN and TOWLINE_TOKEN_FILE"),
        ({"TOKEN_FILE": "nowhere"}, "token: cannot read nowhere: No such file"),
        ({"TOKEN_FILE": "/dev/null"}, "token: /dev/null: expected a token"),
        ({"TOKEN": "a", "INSECURE_TOKEN": "maybe"}, "TOWLINE_INSECURE_TOKEN: expected 1 or 0"),
    ],
)
def test_variables_that_are_no_good_are_named(
    variables: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"TOWLINE_{name}", value)
    with pytest.raises(ConfigurationError, match=message):
        Client("127.0.0.1:1")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"token": 5}, "token: expected a string or a BearerToken, got a int"),
        ({"token": ""}, "token: expected a token"),
        ({"address": "memory://", "token": SECRET}, "token: a broker at memory:// has no use"),
    ],
)
def test_what_is_no_token_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Client(**{"address": "127.0.0.1:1", **wrong})


def test_both_or_neither_of_value_and_file_are_refused() -> None:
    for wrong in ({}, {"value": "a", "file": "b"}):
        with pytest.raises(ConfigurationError, match="give one of value and file"):
            BearerToken(**wrong)  # type: ignore[arg-type]  # what the type forbids, too


def test_a_token_belongs_to_its_address() -> None:
    """Tests that reach another broker by the name of a client do not bring its token along."""
    clients.add("default", "127.0.0.1:1", token=SECRET)
    try:
        with clients.using("127.0.0.1:2") as client:
            assert client.connection.token is None
    finally:
        clients.add("default")


def test_a_token_in_a_file_is_told_to_other_processes_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(SECRET)
    told = json.dumps(Connection.to("127.0.0.1:1", token=BearerToken(file=file)).hand_over())
    assert SECRET not in told
    handed = Connection.handed_over(json.loads(told)).token
    assert handed is not None
    assert handed.read() == SECRET
