"""An issuer that takes its time with its keys is in nobody's way, at the start and later."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.access.callers import bearer
from tests.access.issuer import AUDIENCE, NAME, Issuer
from tests.access.senders import Tokens
from tests.support.calls import calls_to
from tests.support.servers.ports import free_port
from tests.support.waiting import until
from towline.v1.admin_service_pb2 import StatsRequest
from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.drivers.memory import DEFAULT_MAX_BYTES, Engine, MemoryDriver
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.identity import authenticating, jwt_keys
from towline_broker.server.identity.authenticating import Credentials
from towline_broker.server.serving import BrokerServer


class SlowIssuer(Issuer):
    """Publishes its keys when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answers = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        async with server:
            try:
                yield
            finally:
                self.answers.set()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        await self.answers.wait()
        body = self.key_set.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        with suppress(OSError):  # whoever asked may have gone
            await writer.drain()
        writer.close()

    async def was_asked(self) -> bool:
        return self.asked > 0


class WatchedStore(MemoryDriver):
    def __init__(self) -> None:
        super().__init__(Engine(DEFAULT_MAX_BYTES))
        self.closed = 0

    async def close(self) -> None:
        await super().close()
        self.closed += 1


def settings(issuer: SlowIssuer) -> Settings:
    auth = {"jwt": {"issuer": NAME, "audience": AUDIENCE, "jwks_url": issuer.url}}
    return Settings(store="memory:", listen=f"127.0.0.1:{free_port()}", auth=auth)


def is_connected(server: BrokerServer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((server.address.host, server.address.port)) == 0


async def test_it_takes_no_connection_before_it_has_the_keys() -> None:
    """One of several on an address would be given its share of them, and leave them waiting."""
    issuer = SlowIssuer()
    async with issuer.publishing():
        server = BrokerServer(settings(issuer))
        starting = asyncio.create_task(server.start())
        await until(issuer.was_asked, "it asks for the keys")
        assert not is_connected(server)
        issuer.answers.set()
        await starting
        try:
            assert is_connected(server)
            async with calls_to(str(server.address)) as calls:
                token = bearer(issuer.sign(towline={"admin": ["*"]}))
                await calls.admin.Stats(StatsRequest(), metadata=token)
        finally:
            await server.stop()


async def test_a_start_that_is_broken_off_closes_what_it_had_opened() -> None:
    issuer, store = SlowIssuer(), WatchedStore()
    async with issuer.publishing():
        server = BrokerServer(settings(issuer), drivers={DEFAULT_STORE: store})
        starting = asyncio.create_task(server.start())
        await until(issuer.was_asked, "it asks for the keys")
        assert store.closed == 0
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert store.closed == 1
        assert not is_connected(server)


async def test_a_token_is_revoked_while_the_issuer_keeps_silent(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticating, "LOOK_EVERY", 0.01)
    issuer = SlowIssuer()
    async with issuer.publishing():
        auth = settings(issuer).auth.model_copy(update={"tokens": tokens.path})
        changes = 0

        def changed() -> None:
            nonlocal changes
            changes += 1

        async def is_changed() -> bool:
            return changes == 1

        watching = asyncio.create_task(Credentials(auth).watch(changed))
        await until(issuer.was_asked, "it asks for the keys")
        tokens.revoke("first")
        await until(is_changed, "the tokens are read again", jwt_keys.FETCH_TIMEOUT / 2)
        watching.cancel()
