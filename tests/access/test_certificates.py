"""Which of the names in a client's certificate counts."""

from pathlib import Path

import grpc
import pytest

from tests.access.callers import bearer
from tests.access.senders import Tokens
from tests.support.calls import Calls, failure_of
from tests.support.certificates import Authority
from towline.v1.admin_service_pb2 import ListQueuesRequest, ResetStatsRequest
from towline_broker.interceptors.refusals import Refused
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


def test_rights_of_certificates_that_nobody_is_asked_for_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"auth\.subjects: need tls\.client_ca"):
        Settings(auth={"subjects": {"mailer": ADMIN}})
