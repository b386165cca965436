"""The HTTP server gives nobody more than their share of connections, of time and of memory."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.observability.shown import ANY_PORT
from tests.support.certificates import Authority
from tests.support.waiting import until
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.http import connections
from towline_broker.server.http.connections import REQUEST_BYTES, Connection, party
from towline_broker.server.http.endpoint import http_endpoint

MOST = 4
LARGE = 32 * 1024 * 1024
PATIENCE = 20.0
#: Seconds in the place of those that a thing may take.
SOON = 0.2
STRANGER, PROBE = "127.0.0.2", "127.0.0.1"
PROBING = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
HANGING = b"GET /hangs HTTP/1.1\r\nHost: a\r\n\r\n"


class Peer:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> "Peer":
        self.writer.write(data)
        return self

    async def answer(self) -> bytes:
        """The head of an answer, or what came of one until the connection was closed."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def ended(self) -> int:
        """Once the server has closed it: the bytes that came until then."""
        count = 0
        async with asyncio.timeout(PATIENCE):
            try:
                while data := await self._reader.read(64 * 1024):
                    count += len(data)
            except ConnectionError:
                pass
        return count

    @property
    def open(self) -> bool:
        return not self._reader.at_eof() and self._reader.exception() is None


class Site:
    """A server with one page that answers, one that hangs, and one that is large."""

    def __init__(self) -> None:
        self.hanging = asyncio.Semaphore(0)
        self.port = 0
        self._peers: list[Peer] = []

    async def livez(self, _: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def hangs(self, _: web.Request) -> web.Response:
        self.hanging.release()
        await asyncio.Event().wait()
        raise AssertionError

    async def large(self, _: web.Request) -> web.Response:
        return web.Response(body=bytes(LARGE))

    async def connect(self, host: str, trust: ssl.SSLContext | None = None) -> Peer:
        opened = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=trust, local_addr=(host, 0)
        )
        self._peers.append(Peer(*opened))
        return self._peers[-1]

    async def hang(self, host: str) -> Peer:
        """A connection that is being answered."""
        peer = (await self.connect(host)).send(HANGING)
        async with asyncio.timeout(PATIENCE):
            await self.hanging.acquire()
        return peer

    def leave(self) -> None:
        for peer in self._peers:
            peer.writer.transport.abort()


@asynccontextmanager
async def site(tls: TlsSettings | None = None) -> AsyncIterator[Site]:
    shown = Site()
    pages = [
        web.get("/livez", shown.livez),
        web.get("/hangs", shown.hangs),
        web.get("/large", shown.large),
    ]
    settings = HttpSettings(listen=ANY_PORT, connections=MOST, tls=tls is not None)
    async with http_endpoint(settings, pages, tls=tls or TlsSettings()) as opened:
        assert opened.address is not None
        shown.port = opened.address.port
        yield shown
        shown.leave()


async def alive(peer: Peer) -> bool:
    return b"HTTP/1.1 200" in await peer.send(PROBING).answer()


# --- how many ---


async def test_a_newcomer_takes_the_place_of_who_has_waited_longest() -> None:
    async with site() as shown:
        peers = [await shown.connect(STRANGER) for _ in range(MOST)]
        assert await alive(await shown.connect(STRANGER))
        await peers[0].ended()
        assert all(peer.open for peer in peers[1:])


async def test_a_probe_gets_through_while_others_hold_all_connections() -> None:
    async with site() as shown:
        peers = [await shown.hang(STRANGER) for _ in range(MOST)]
        assert await alive(await shown.connect(PROBE))
        await peers[0].ended()
        assert all(peer.open for peer in peers[1:])


async def test_who_has_most_pays_for_their_own_newcomers() -> None:
    async with site() as shown:
        probe = await shown.connect(PROBE)
        assert await alive(probe)
        for _ in range(MOST - 1):
            await shown.hang(STRANGER)
        assert await (await shown.connect(STRANGER)).answer() == b""
        assert await alive(probe)


async def test_who_has_most_pays_for_the_newcomers_of_others() -> None:
    async with site() as shown:
        probe = await shown.connect(PROBE)
        peers = [await shown.connect(STRANGER) for _ in range(MOST - 1)]
        assert await alive(await shown.connect("127.0.0.3"))
        await peers[0].ended()
        assert await alive(probe)


async def test_no_answer_is_cut_off_for_who_has_as_many() -> None:
    async with site() as shown:
        peers = [await shown.hang(f"127.0.0.{number}") for number in range(2, 2 + MOST)]
        assert await (await shown.connect(PROBE)).answer() == b""
        assert all(peer.open for peer in peers)


async def test_a_place_is_free_again_once_its_connection_is_gone() -> None:
    async with site() as shown:
        for _ in range(3):
            peers = [await shown.hang(STRANGER) for _ in range(MOST)]
            for peer in peers:
                peer.writer.transport.abort()
            await living(shown)


async def living(shown: Site) -> Peer:
    """A connection that was answered, as soon as there is one."""
    found: list[Peer] = []

    async def answered() -> bool:
        found.append(await shown.connect(STRANGER))
        return await alive(found[-1])

    await until(answered, "an answer")
    return found[-1]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::2:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
async def test_the_addresses_of_one_machine_count_together(
    one: str, other: str, same: bool
) -> None:
    assert (party(one) == party(other)) is same


# --- how long ---


async def test_who_lets_headers_trickle_in_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as shown:
        again = await living(shown)
        monkeypatch.setattr(connections, "REQUEST_TIME", SOON)
        silent, slow = await shown.connect(STRANGER), await shown.connect(STRANGER)
        again.send(b"GET /")  # the next request of a connection has no more time
        slow.send(b"GET /livez HTTP/1.1\r\n")
        slowly = asyncio.create_task(trickle(slow))
        assert await slow.ended() == 0
        slowly.cancel()
        assert await silent.ended() == 0
        await again.ended()


async def trickle(peer: Peer) -> None:
    while True:
        peer.send(b"A: b\r\n")
        await asyncio.sleep(SOON / 10)


async def test_a_connection_that_asks_nothing_more_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "IDLE_TIME", SOON)
    async with site() as shown:
        await (await living(shown)).ended()


async def test_who_does_not_read_an_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    cut, abort = asyncio.Event(), Connection.abort

    def noted(connection: Connection) -> None:
        abort(connection)
        cut.set()

    monkeypatch.setattr(connections, "ANSWER_TIME", SOON)
    monkeypatch.setattr(Connection, "abort", noted)
    async with site() as shown:
        peer = (await shown.connect(STRANGER)).send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(PATIENCE):
            await cut.wait()  # a stream reads no further once its buffer is full
        assert await peer.ended() < LARGE


async def test_who_does_not_end_a_handshake_is_cut_off_and_counted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    trust = ssl.create_default_context(cafile=str(authority.write(tmp_path)))
    async with site(TlsSettings(cert=cert, key=key)) as shown:
        silent = [await shown.connect(STRANGER) for _ in range(MOST)]
        assert await alive(await shown.connect(PROBE, trust))
        await silent[0].ended()
        assert all(peer.open for peer in silent[1:])
        monkeypatch.setattr(connections, "REQUEST_TIME", SOON)
        await (await shown.connect(PROBE)).ended()


# --- how much ---


async def test_a_request_has_a_bounded_size() -> None:
    async with site() as shown:
        peer = (await shown.connect(STRANGER)).send(b"GET /livez HTTP/1.1\r\n")
        for number in range(REQUEST_BYTES // 1_000 + 2):
            peer.send(b"a%d: %s\r\n" % (number, bytes(1_000).replace(b"\0", b"b")))
        assert not (await peer.answer()).startswith(b"HTTP/1.1 200")
        await peer.ended()
        body = b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n" + b"b" * 100
        peer = (await shown.connect(STRANGER)).send(body)
        assert (await peer.answer()).startswith(b"HTTP/1.1 405")
        await peer.ended()


async def test_no_answer_tells_what_serves_it() -> None:
    requests = {
        PROBING: b"200",
        b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n": b"404",
        b"PUT /livez HTTP/1.1\r\nHost: a\r\n\r\n": b"405",
        b"GET /\0 HTTP/1.1\r\n\r\n": b"400",
        b"nonsense\r\n\r\n": b"400",
    }
    async with site() as shown:
        for request, code in requests.items():
            head = await (await shown.connect(STRANGER)).send(request).answer()
            assert head.split()[1] == code
            servers = [line for line in head.splitlines() if line.lower().startswith(b"server")]
            assert servers == [b"Server: towline-broker"], request
            assert b"Cache-Control: no-store" in head
