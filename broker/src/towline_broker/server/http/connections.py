"""Connections of the HTTP server: how many there are, and how long each may take for what.

Whoever reaches the port can open connections and leave them: so a newcomer is let in at the cost of
one that waits, and of those who hold most of them. A probe gets through while others hold all there
are.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from towline_broker.domain.events import event
from towline_broker.interceptors.in_measure import InMeasure

log = logging.getLogger("towline.broker")

#: Seconds from its first byte until a request is in; of a new connection, from its start, with the
#: handshake of TLS.
REQUEST_TIME = 10.0
#: Seconds until an answer is written: who does not read it is cut off.
ANSWER_TIME = 30.0
#: Seconds after which a connection that asks nothing more is closed: more than from one scrape to
#: the next.
IDLE_TIME = 75.0
#: Seconds that are given to what a request brings with it: nothing here reads it.
BODY_TIME = 1.0
#: Bytes that may come before a request is answered.
REQUEST_BYTES = 64 * 1024
#: Seconds for which no connection is accepted once the machine has no room for one.
NO_ROOM_PAUSE = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _nothing() -> None:
    pass


class Connection(web.RequestHandler):
    """aiohttp's, with a time for each thing and a bound for what comes in."""

    def __init__(self, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_TIME,
            lingering_time=BODY_TIME,
            auto_decompress=False,
        )
        self.on_lost: Callable[[], None] = _nothing
        self._timer: asyncio.TimerHandle | None = None
        self._came_in = 0
        #: Whether a request is being answered.
        self.answers = False
        #: When that changed last.
        self.since = self._loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._allow(REQUEST_TIME)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disallow()
        super().connection_lost(exc)
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        if not self.answers:
            self._came_in += len(data)
            if self._came_in > REQUEST_BYTES:
                self.abort()
                return
            if self._timer is None:
                self._allow(REQUEST_TIME)
        super().data_received(data)

    def request_came(self) -> None:
        """The request is in, and is being answered from here on."""
        self._turn(answers=True)
        self._allow(ANSWER_TIME)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Every answer goes out here, also that to what is no request."""
        resp.headers["Server"] = "towline-broker"  # and not which Python and library serve it
        resp.headers["Cache-Control"] = "no-store"
        resp.headers["X-Content-Type-Options"] = "nosniff"
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._turn(answers=False)
            self._disallow()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _turn(self, *, answers: bool) -> None:
        self.answers = answers
        self.since = self._loop.time()
        self._came_in = 0

    def _allow(self, seconds: float) -> None:
        self._disallow()
        self._timer = self._loop.call_later(seconds, self.abort)

    def _disallow(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@web.middleware
async def note_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tells the connection that its request is in."""
    connection = request.protocol
    if isinstance(connection, Connection):
        connection.request_came()
    return await handler(request)


@dataclass(eq=False)
class _Guest:
    party: str
    protocol: Connection
    connecting: asyncio.Task[None] | None = None

    def leave(self) -> None:
        self.protocol.abort()
        if self.connecting is not None:
            self.connecting.cancel()


class Connections:
    """``most`` are open at the same time. ``context``: of HTTPS."""

    def __init__(self, server: web.Server, most: int, context: ssl.SSLContext | None) -> None:
        self._server = server
        self._most = most
        self._context = context
        self._guests: set[_Guest] = set()
        self._lines = InMeasure()

    def __len__(self) -> int:
        return len(self._guests)

    async def accept(self, listener: socket.socket) -> None:
        """For ever; to be cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            try:
                made, address = await loop.sock_accept(listener)
            except ConnectionError:
                pass  # it was given up before it was accepted
            except OSError as error:
                self._tell_of_no_room(error)
                await asyncio.sleep(NO_ROOM_PAUSE)
            else:
                self._welcome(made, address)
            # Many may come at once: others have their turn of the loop in between.
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Those that have not come as far as a request; aiohttp closes the others."""
        connecting = [guest.connecting for guest in self._guests if guest.connecting is not None]
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)

    def _tell_of_no_room(self, error: OSError) -> None:
        if self._lines.passed_over("http_crowded") is not None:
            log.warning(
                "the HTTP server can accept no connection for now: %s",
                error.strerror,
                extra=event("http_crowded", reason=error.strerror),
            )

    def _welcome(self, made: socket.socket, address: Any) -> None:
        its_party = party(address[0])
        if len(self._guests) >= self._most and not self._make_room(its_party):
            made.close()
            return
        guest = _Guest(its_party, Connection(self._server))
        guest.protocol.on_lost = lambda: self._guests.discard(guest)
        self._guests.add(guest)
        guest.connecting = asyncio.create_task(self._connect(guest, made))
        guest.connecting.add_done_callback(lambda _: self._connected(guest, made))

    async def _connect(self, guest: _Guest, made: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: guest.protocol,
                made,
                ssl=self._context,
                ssl_handshake_timeout=REQUEST_TIME if self._context else None,
                ssl_shutdown_timeout=BODY_TIME if self._context else None,
            )
        except OSError as error:
            log.debug("a connection to the HTTP server did not come about: %s", error)

    def _connected(self, guest: _Guest, made: socket.socket) -> None:
        guest.connecting = None
        if not guest.protocol.connected:
            made.close()
            self._guests.discard(guest)

    def _make_room(self, party: str) -> bool:
        """At the cost of whoever holds most, and not less than this one, by a connection that waits
        rather than by one that is being answered. A request is cut off only for who has far less.
        """
        held = Counter(guest.party for guest in self._guests)
        own = held[party]
        spared = [
            guest
            for guest in self._guests
            if held[guest.party] >= own + (2 if guest.protocol.answers else 0)
        ]
        if not spared:
            return False
        longest = max(
            spared,
            key=lambda guest: (
                held[guest.party],
                not guest.protocol.answers,
                -guest.protocol.since,
            ),
        )
        self._guests.discard(longest)
        longest.leave()
        return True


def party(host: str) -> str:
    """Whose connection it is: of IPv6, one machine has a network of addresses."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((address, 64), strict=False))
