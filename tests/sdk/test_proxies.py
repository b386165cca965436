"""Proxies that the environment names for the web, and calls to a broker."""

import socket
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from tests.support.tls_server import tls_server
from towline import ConfigurationError
from towline.channel import Connection

METHOD = "/nobody.knows/This"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """One that hears, and answers nothing."""
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        port = listener.getsockname()[1]
        for name in ("grpc_proxy", "https_proxy", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        yield listener


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_a_broker_on_this_machine_is_reached_without_a_proxy(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    # By a proxy elsewhere its token would leave the machine, and without TLS.
    monkeypatch.setenv("TOWLINE_USE_PROXY", wanted)
    with tls_server(None) as address, Connection.to(address, token="twl_x").open() as channel:
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.RpcError) as failed:
            call(b"", timeout=10)
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    proxy.settimeout(0)
    with pytest.raises(BlockingIOError):
        proxy.accept()


def test_a_proxy_of_the_environment_is_passed_by(proxy: socket.socket) -> None:
    with Connection.to("broker.test:7480").open() as channel:
        call: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=2)
    proxy.settimeout(0)
    with pytest.raises(BlockingIOError):
        proxy.accept()


def test_it_is_used_where_that_is_wanted(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_USE_PROXY", "1")
    with Connection.to("broker.test:7480").open() as channel:
        call: Any = channel.unary_unary(METHOD)
        under_way = call.future(b"", timeout=30)
        connection, _ = proxy.accept()
        with connection:
            assert connection.recv(100).startswith(b"CONNECT broker.test:7480 ")
        under_way.cancel()


def test_what_is_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_USE_PROXY", "http://proxy:3128")
    with pytest.raises(ConfigurationError, match="TOWLINE_USE_PROXY: expected 1 or 0"):
        Connection.to("127.0.0.1:7480")
