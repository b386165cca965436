"""Addresses are read as meant, and every RPC of the contract is repeated exactly if it may be."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from towline import BearerToken, Client, ConfigurationError, TlsCredentials
from towline.channel import SAFE_TO_REPEAT, SERVICE_CONFIG, Connection, parse_address
from towline.v1 import (
    admin_service_pb2,
    dead_letter_service_pb2,
    queue_service_pb2,
    queue_service_pb2_grpc,
)

# A repeat of these can hit what came in between; the contract says so at each.
NOT_SAFE = {
    "towline.v1.AdminService": {"ResetStats", "PurgeQueue"},
    "towline.v1.DeadLetterService": {"RequeueDead", "DiscardDead"},
}


@pytest.mark.parametrize(
    ("address", "target", "tls"),
    [
        ("127.0.0.1:7480", "127.0.0.1:7480", None),
        ("broker:80", "broker:80", None),
        ("[::1]:7480", "[::1]:7480", None),
        ("grpc://broker.example:7480", "broker.example:7480", False),
        ("grpc://broker:7480/", "broker:7480", False),
        ("grpcs://broker:7480", "broker:7480", True),
        ("dns:///broker:7480", "dns:///broker:7480", None),
        ("dns:broker:7480", "dns:broker:7480", None),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1", None),
        ("unix:/run/towline.sock", "unix:/run/towline.sock", None),
    ],
)
def test_an_address_is_read(address: str, target: str, tls: bool | None) -> None:
    assert parse_address(address) == (target, tls)


@pytest.mark.parametrize(
    "address",
    ["", "broker", "broker:", ":7480", "broker:port", "broker:99999", "http://broker:80",
     "grpc://broker", "grpc://user@broker:80", "grpc://broker:80/path", "a b:80", "dns:"],
)  # fmt: skip
def test_any_other_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="address: expected host:port"):
        Client(address)


@pytest.mark.parametrize("wrong", [5, b"127.0.0.1:1"])
def test_an_address_that_is_no_string_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="address: expected a string such as host:port"):
        Client(wrong)


def test_credentials_that_are_none_are_refused_at_once() -> None:
    wrong: Any = ("user", "password")
    with pytest.raises(ConfigurationError, match=r"credentials: expected towline\.TlsCredentials"):
        Client("127.0.0.1:1", credentials=wrong)


def test_without_an_address_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOWLINE_URL", raising=False)
    assert parse_address() == ("127.0.0.1:7480", None)
    monkeypatch.setenv("TOWLINE_URL", "grpcs://elsewhere:1")
    assert parse_address() == ("elsewhere:1", True)
    assert parse_address("here:2") == ("here:2", None)
    monkeypatch.setenv("TOWLINE_URL", "nonsense")
    with pytest.raises(ConfigurationError, match="TOWLINE_URL: expected host:port"):
        Client()


def test_every_rpc_of_the_contract_is_either_safe_to_repeat_or_known_not_to_be() -> None:
    for module in (queue_service_pb2, dead_letter_service_pb2, admin_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            name = service.full_name
            methods = {m.name for m in service.methods if not m.client_streaming}
            safe = set(SAFE_TO_REPEAT[name])
            assert safe | NOT_SAFE.get(name, set()) == methods
            assert not safe & NOT_SAFE.get(name, set())


def test_only_what_tells_that_the_broker_is_away_is_repeated() -> None:
    [method_config] = SERVICE_CONFIG["methodConfig"]
    codes = method_config["retryPolicy"]["retryableStatusCodes"]
    # What reaches a server while it stops, gRPC cancels.
    assert codes == ["UNAVAILABLE", "CANCELLED"]
    assert method_config["retryPolicy"]["maxAttempts"] == 5


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_a_call_that_meets_a_broker_which_stops_is_repeated(code: grpc.StatusCode) -> None:
    called = 0

    def push(request: object, context: grpc.ServicerContext) -> queue_service_pb2.PushResponse:
        nonlocal called
        called += 1
        if called == 1:
            context.abort(code, "it stops")
        return queue_service_pb2.PushResponse()

    server = grpc.server(ThreadPoolExecutor(1))
    handler = grpc.unary_unary_rpc_method_handler(
        push,
        queue_service_pb2.PushRequest.FromString,
        queue_service_pb2.PushResponse.SerializeToString,
    )
    service = "towline.v1.QueueService"
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Push": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Connection.to(f"127.0.0.1:{port}").open() as channel:
            stub = queue_service_pb2_grpc.QueueServiceStub(channel)
            stub.Push(queue_service_pb2.PushRequest(), timeout=10)
    finally:
        server.stop(None).wait()
    assert called == 2


PEM = b"-----BEGIN CERTIFICATE-----\n\xff\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "credentials",
    [None, TlsCredentials(), TlsCredentials(PEM), TlsCredentials(PEM, PEM, PEM, "broker")],
)
@pytest.mark.parametrize(
    "token", [None, BearerToken("secret", insecure=True), BearerToken(file="/dev/null/none")]
)
def test_a_connection_can_be_told_to_another_process(
    credentials: TlsCredentials | None, token: BearerToken | None
) -> None:
    connection = Connection("broker:1", credentials, token=token)
    assert connection.can_be_handed_over
    told = json.loads(json.dumps(connection.hand_over()))
    assert Connection.handed_over(told) == connection


def test_objects_of_grpc_can_be_told_to_no_other_process() -> None:
    credentials = grpc.ssl_channel_credentials()
    assert not Connection.to("broker:1", credentials=credentials).can_be_handed_over


def test_a_private_key_does_not_show() -> None:
    assert "PRIVATE" not in repr(TlsCredentials(None, b"-----BEGIN PRIVATE KEY-----", PEM))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"root_certificates": "ca.pem"}, "root_certificates: expected the bytes of a PEM file"),
        ({"private_key": b"ca.pem"}, "private_key: expected the bytes of a PEM file"),
        ({"private_key": PEM}, "private_key and certificate_chain go together"),
        ({"certificate_chain": PEM}, "private_key and certificate_chain go together"),
    ],
)
def test_credentials_that_are_no_pem_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TlsCredentials(**wrong)
