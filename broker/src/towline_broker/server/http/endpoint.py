"""The HTTP server: its address, its start and its end."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from towline_broker.domain.events import event
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import AddressError, ConfigError
from towline_broker.server.http.connections import Connections, note_request
from towline_broker.server.http.https import WebCertificate

log = logging.getLogger("towline.broker")


@dataclass(frozen=True)
class Opened:
    """``address`` is None if nothing is served, and ``problem`` then says why."""

    address: Address | None
    problem: str = ""
    certificate: WebCertificate | None = None

    @property
    def tls(self) -> bool:
        return self.certificate is not None

    def certificate_ends(self) -> dict[str, float]:
        """When that certificate runs out, in seconds since the Unix epoch; empty without one."""
        return {} if self.certificate is None else {"http": self.certificate.expires.timestamp()}

    @property
    def url(self) -> str:
        """Empty if nothing is served."""
        return "" if self.address is None else f"http{'s' * self.tls}://{self.address}"

    def tell(self) -> str:
        """In the log, once there is a broker to be told of; returns :attr:`url`."""
        if self.address is not None:
            log.info(
                "figures and probes on %s",
                self.url,
                extra=event("http_serving", address=str(self.address), tls=self.tls),
            )
        else:
            log.warning(
                "no figures and no probes over HTTP: %s",
                self.problem,
                extra=event("http_not_serving", reason=self.problem),
            )
        return self.url


NO_TLS = TlsSettings()
#: Seconds for answers that are under way when the server ends.
LAST_GRACE = 0.5


@asynccontextmanager
async def http_endpoint(
    settings: HttpSettings,
    routes: Iterable[web.RouteDef],
    *,
    insecure: bool = False,
    tls: TlsSettings = NO_TLS,
) -> AsyncIterator[Opened]:
    """Serves while the context lasts; of settings that want it.

    ``insecure``: an address that other machines reach needs no word of its own. ``tls``: whose
    certificate serves, if the settings want one. Raises AddressError, ConfigError.
    """
    certificate = WebCertificate(tls) if settings.tls else None
    try:
        address, listener = _take(settings, insecure)
    except AddressError as error:
        if settings.chosen:
            raise
        yield Opened(None, str(error))
        return
    watching = None if certificate is None else asyncio.create_task(certificate.watch())
    context = None if certificate is None else certificate.context
    try:
        async with _served(routes, listener, settings.connections, context):
            yield Opened(address, certificate=certificate)
    finally:
        if watching is not None:
            watching.cancel()
        listener.close()


@asynccontextmanager
async def _served(
    routes: Iterable[web.RouteDef],
    listener: socket.socket,
    most: int,
    context: ssl.SSLContext | None,
) -> AsyncIterator[None]:
    application = web.Application(middlewares=[note_request])
    application.add_routes(routes)
    runner = web.AppRunner(application, shutdown_timeout=LAST_GRACE)
    await runner.setup()
    if runner.server is None:
        raise RuntimeError("aiohttp has set up no server")
    connections = Connections(runner.server, most, context)
    accepting = asyncio.create_task(connections.accept(listener))
    try:
        yield
    finally:
        accepting.cancel()
        await connections.close()
        await runner.cleanup()


def allowed_address(settings: HttpSettings, insecure: bool) -> Address:
    """Where it is to be served. Raises AddressError, ConfigError."""
    address = Address.parse(settings.listen).resolve("http.listen")
    if not (address.is_loopback or settings.public or insecure):
        raise ConfigError(
            f"http.listen: {settings.listen} can be reached from other machines, and whoever "
            "reaches it reads the names of queues and types, and all figures. Listen on "
            "127.0.0.1, or set http.public = true if the network is closed to strangers"
        )
    return address


def _take(settings: HttpSettings, insecure: bool) -> tuple[Address, socket.socket]:
    return allowed_address(settings, insecure).listening("http.listen", "--http")
