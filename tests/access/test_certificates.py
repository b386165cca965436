"""Which of the names in a client's certificate counts."""

import asyncio
import socket
import ssl
from pathlib import Path

import grpc
import pytest

from tests.access.callers import bearer
from tests.access.senders import Tokens
from tests.support.calls import Calls, failure_of
from tests.support.certificates import Authority
from towline.v1.admin_service_pb2 import ListQueuesRequest, ResetStatsRequest
from towline_broker.interceptors.refusals import Refused
from towline_broker.server import certificates
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import running_broker

ADMIN = {"admin": ["*"]}
RESET = "/towline.v1.AdminService/ResetStats"


@pytest.mark.parametrize(
    ("name", "also", "identity"),
    [
        ("mailer", [], "cert:mailer"),
        ("stranger", ["10.0.0.1", "mailer.test", "other.test"], "cert:mailer.test"),
        ("stranger", ["other.test", "mailer.test"], "cert:other.test"),
        ("stranger", ["spiffe://shop/mailer"], "cert:spiffe://shop/mailer"),
        ("mailer", ["stranger.test"], None),  # with alternative names the common name is none
        ("stranger", [], None),
    ],
)
async def test_the_first_name_that_is_listed_counts(
    tmp_path: Path, tokens: Tokens, name: str, also: list[str], identity: str | None
) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    names = ["mailer", "mailer.test", "other.test", "spiffe://shop/mailer"]
    settings = Settings(
        store="memory:",
        listen="127.0.0.1:0",
        tls={"cert": cert, "key": key, "client_ca": authority.write(tmp_path)},
        auth={"subjects": {name: {"push": ["q"]} for name in names}, "tokens": tokens.path},
    )
    shown = authority.issue(name, also=also)
    credentials = grpc.ssl_channel_credentials(authority.pem, shown.key, shown.cert)
    async with (
        running_broker(settings) as server,
        grpc.aio.secure_channel(str(server.address), credentials) as channel,
    ):
        calls = Calls(channel, str(server.address))
        failure = await failure_of(calls.admin.ResetStats(ResetStatsRequest()))
        if identity is None:
            assert failure.code is grpc.StatusCode.UNAUTHENTICATED
            assert "auth.subjects" in failure.message
        else:
            assert server.access.refusals.counts == {
                Refused(RESET, identity, "PERMISSION_DENIED"): 1
            }
        # A token counts, whatever the certificate says.
        token = tokens.make("operator", admin=["*"])
        await calls.admin.ListQueues(ListQueuesRequest(), metadata=bearer(token))


@pytest.mark.parametrize(("lasts", "taken_up"), [(60.0, True), (0.0, False)])
async def test_a_session_is_not_taken_up_for_longer_than_a_minute_without_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasts: float, taken_up: bool
) -> None:
    monkeypatch.setattr(certificates, "SESSIONS_LAST", lasts)
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    client_ca = authority.write(tmp_path)
    client = ssl.create_default_context(cafile=client_ca)
    client.check_hostname = False
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # its session is there with the handshake
    client.set_alpn_protocols(["h2"])
    client.load_cert_chain(*authority.issue("mailer").write(tmp_path, "client"))
    settings = Settings(
        store="memory:",
        listen="127.0.0.1:0",
        tls={"cert": cert, "key": key, "client_ca": client_ca},
        auth={"subjects": {"mailer": {"push": ["q"]}}},
    )
    async with running_broker(settings) as server:
        port = server.address.port

        def connect(session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool]:
            plain = socket.create_connection(("127.0.0.1", port), timeout=10)
            with client.wrap_socket(plain, session=session) as connection:
                return connection.session, bool(connection.session_reused)

        session, _ = await asyncio.to_thread(connect)
        _, again = await asyncio.to_thread(connect, session)
    assert again is taken_up


def test_rights_of_certificates_that_nobody_is_asked_for_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"auth\.subjects: need tls\.client_ca"):
        Settings(auth={"subjects": {"mailer": ADMIN}})
