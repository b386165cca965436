"""The HTTP server: its address, its start and its end."""

import logging
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from towline_broker.server.addresses import Address
from towline_broker.server.exits import AddressError, ConfigError
from towline_broker.server.http_settings import HttpSettings

log = logging.getLogger("towline.broker")

#: Seconds for answers that are under way when the server ends.
LAST_GRACE = 1.0
#: Seconds after which a connection that asks nothing more is closed.
KEEPALIVE = 75.0


@asynccontextmanager
async def http_endpoint(
    settings: HttpSettings, routes: Iterable[web.RouteDef], *, insecure: bool = False
) -> AsyncIterator[Address | None]:
    """Serves while the context lasts; yields the real address, None if nothing is served.

    ``insecure``: an address that other machines reach needs no word of its own. Raises
    AddressError, ConfigError.
    """
    taken = _take(settings, insecure)
    if taken is None:
        yield None
        return
    address, listener = taken
    runner = web.AppRunner(_application(routes), access_log=None, keepalive_timeout=KEEPALIVE)
    try:
        await runner.setup()
        await web.SockSite(runner, listener, shutdown_timeout=LAST_GRACE).start()
        log.info("figures and probes on http://%s", address)
        yield address
    finally:
        await runner.cleanup()
        listener.close()


def _take(settings: HttpSettings, insecure: bool) -> tuple[Address, socket.socket] | None:
    wanted = settings.address
    if wanted is None:
        return None
    address = wanted.resolve("http.listen")
    if not (address.is_loopback or settings.public or insecure):
        raise ConfigError(
            f"http.listen: {settings.listen} can be reached from other machines, and whoever "
            "reaches it reads the names of queues and types, and all figures. Listen on "
            "127.0.0.1, or set http.public = true if the network is closed to strangers"
        )
    try:
        return address.listening("http.listen", "--http")
    except AddressError as error:
        if settings.chosen:
            raise
        log.warning("no figures and no probes over HTTP: %s", error)
        return None


def _application(routes: Iterable[web.RouteDef]) -> web.Application:
    application = web.Application()
    application.add_routes(routes)
    application.on_response_prepare.append(_add_headers)
    return application


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "towline-broker"  # and not which Python and library serve it
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
