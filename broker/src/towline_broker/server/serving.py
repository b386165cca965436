"""A broker behind a gRPC server: put together, started, drained, stopped."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2_grpc,
)

from towline_broker.core.broker import Broker
from towline_broker.core.clock import Clock
from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.domain.errors import OptionRefused, StoreRefused
from towline_broker.domain.events import event
from towline_broker.domain.time import SECOND, Micros, to_seconds
from towline_broker.drivers.interface import Capabilities, Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.urls import shown_url
from towline_broker.interceptors.access_log import AccessDetails, AccessLog
from towline_broker.interceptors.errors import ErrorsInterceptor
from towline_broker.interceptors.measuring import MeasuredCalls
from towline_broker.interceptors.pacing import PushPacing
from towline_broker.interceptors.reading import RequestReader
from towline_broker.interceptors.running import RunningCalls
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import AddressError, ConfigError, WrongSettings
from towline_broker.server.exposure import Protection, check_exposure
from towline_broker.server.grpc_options import grpc_options
from towline_broker.server.handlers import Handlers
from towline_broker.server.identity.access import Access
from towline_broker.server.particulars import Serving, StoreLine
from towline_broker.server.telemetry import Telemetry
from towline_broker.services.admin_service import AdminService
from towline_broker.services.dead_letter_service import DeadLetterService
from towline_broker.services.pushing import DEFAULT_QUEUE
from towline_broker.services.queue_service import QueueService
from towline_broker.services.registering import SERVICES, add_services
from towline_broker.services.streams.lifetime import OpenStreams
from towline_broker.services.streams.push_stream import PushStreams
from towline_broker.services.streams.work_stream import WorkStreams

if TYPE_CHECKING:
    from towline_broker.server.certificates import Certificates

log = logging.getLogger("towline.broker")

VERSION = version("towline-broker")

#: A drained broker refuses calls until none has come for this long, but not for longer than that:
#: a call that meets the closing of the port is broken off, and its client told CANCELLED.
QUIET: float = 0.1
LAME_DUCK: float = 1.0
#: For replies that are on their way out.
LAST_GRACE: float = 0.5


class BrokerServer:
    """Call :meth:`start`, then :meth:`drain` if there is time, then :meth:`stop`.

    ``drivers`` (by the name of the store; the settings decide for those that are not named),
    ``clock`` and ``telemetry`` are for tests. ``shares_port``: other processes serve the same
    address. Raises ConfigError, StoreRefused.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        drivers: Mapping[str, Driver] | None = None,
        clock: Clock | None = None,
        shares_port: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._settings = settings
        self._shares_port = shares_port
        self._drivers = _create_drivers(settings.all_stores, drivers or {})
        core = settings.core.to_core()
        self.broker = Broker(
            *(self._drivers, settings.to_routes()),
            clock=clock,
            settings=core,
            queue_options=settings.to_queue_options(),
        )
        self._limits = settings.limits.to_limits()
        self._running = RunningCalls()
        #: What is shown over HTTP, if anything is.
        self.calls = MeasuredCalls()
        measuring = [self.calls] if settings.http.address is not None else []
        self.draining = False
        self.access = Access(settings.auth, settings.guards, DEFAULT_QUEUE)
        self._telemetry = telemetry or Telemetry.of(settings.telemetry, VERSION)
        self._health = health.aio.HealthServicer()
        self._handlers = Handlers(
            [
                ErrorsInterceptor(),
                AccessLog(),
                *measuring,
                *self.access.outer,
                # Not before the request is there: a drain waits for no call that is half sent.
                self._running,
                PushPacing(lambda: self.broker.jobs.crowded, DEFAULT_QUEUE, self._running),
                RequestReader(self._limits.most_items),
                AccessDetails(),
                *self.access.inner,
                *self._telemetry.interceptors(VERSION),
            ]
        )
        queue = QueueService(self.broker, self._limits)
        self._streams = OpenStreams(self.broker.waiters, lambda: self._settings.max_stream_age)
        add_services(
            self._handlers,
            queue,
            DeadLetterService(self.broker, self._limits),
            AdminService(self.broker, self._limits, VERSION),
            PushStreams(queue.pushes, self.broker, self._limits, self._streams),
            WorkStreams(queue, self.broker, self._limits, self._streams),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._handlers)
        self._server = grpc.aio.server(
            handlers=[self._handlers],
            options=grpc_options(settings, self._limits, shares_port=shares_port),
        )
        self.address = Address.parse(settings.listen)
        self._certificates = _read_certificates(settings.tls)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the store, takes the address and serves; ``address`` is then the real one.

        Raises AddressError, ConfigError (a public address without protection or ``insecure``, or
        several processes on a store of which one must be the only owner), StoreRefused,
        StoreUnavailable.
        """
        try:
            await self._start()
        except BaseException:
            await self._telemetry.stop()  # a start can be tried again, for hours
            raise

    async def _start(self) -> None:
        address = self.address.resolve()
        check_exposure(self._settings.listen, address, self.protection, self._settings.insecure)
        if address.is_loopback:
            names = (*SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
                reflection.aio.ReflectionServicer((*names, reflection.SERVICE_NAME)),
                self._handlers,
            )
        if not self._shares_port:
            # A broker that cannot have its address leaves the store alone.
            address.check_free()
        await self._open()
        try:
            await self.access.start()
            # Last, for with the address connections come to this process, its share of them or all.
            self.address = self._bind(address)
            for service in SERVICES:
                await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
            await self._server.start()
        except BaseException:
            await self.stop(grace=None)
            raise
        if self._certificates is not None:
            self._watching = asyncio.create_task(self._certificates.watch())

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self._settings

    def reload(self, settings: Settings) -> None:
        """Takes over what can change while it serves; the rest must be as it was at the start.

        Raises ConfigError, having changed nothing.
        """
        put_in_force = self.access.prepare(settings.auth, settings.guards)
        with _refusing_options():
            self.broker.apply(settings.to_queue_options())
        put_in_force()
        self._settings = settings

    @property
    def protection(self) -> Protection:
        """What keeps strangers from it."""
        return Protection(tls=self._settings.tls.enabled, identity=self.access.asks)

    @property
    def certificate_ends(self) -> Mapping[str, float]:
        """When certificates in use run out, in seconds since the Unix epoch: "grpc", and
        "client_ca" if there is one."""
        if self._certificates is None:
            return {}
        return {name: end.timestamp() for name, end in self._certificates.ends.items()}

    @property
    def serving(self) -> Serving:
        """What is told of it, once it has started."""
        urls = self._settings.all_stores
        lines = [
            StoreLine(
                name,
                shown_url(urls[name]),
                driver.capabilities.durability,
                driver.capabilities.durability_note,
                driver.capabilities.shared,
            )
            for name, driver in self._drivers.items()
        ]
        return Serving(VERSION, self.address, lines, self.protection)

    async def drain(self, timeout: Micros, delay: Micros = 0) -> None:
        """Lets what is under way come to its end, and nothing new begin.

        Health says NOT_SERVING, and for ``delay`` nothing else changes. Then new work is refused
        with UNAVAILABLE, parked calls are answered, running ones finish within ``timeout``;
        settling goes on until they have. Then every call is refused, for a moment, so that clients
        turn away before the port closes.
        """
        self.draining = True
        await self._health.enter_graceful_shutdown()
        if delay:
            await asyncio.sleep(to_seconds(delay))
        self.broker.drain()
        self._streams.drain()
        try:
            async with asyncio.timeout(to_seconds(timeout)):
                await self._running.idle()
                self._running.close()
                await self._running.idle()
        except TimeoutError:
            self._running.close()
            log.warning(
                "calls are still running after %g s; cut off",
                to_seconds(timeout),
                extra=event("calls_cut_off", seconds=to_seconds(timeout)),
            )
        with suppress(TimeoutError):
            async with asyncio.timeout(LAME_DUCK):
                await self._running.quiet(QUIET)

    async def stop(self, grace: float | None = LAST_GRACE) -> None:
        """Ends every call, the last of them after ``grace`` seconds (None: at once), and closes the
        store with all that was begun in it."""
        if self._watching is not None:
            self._watching.cancel()
        self.access.stop()
        await self._server.stop(grace)
        await self.broker.stop()
        await self._telemetry.stop()

    async def _open(self) -> None:
        with _refusing_options():
            await self.broker.start()
        if self._shares_port:
            try:
                self._check_shared()
            except ConfigError:
                await self.broker.stop()
                raise

    def _check_shared(self) -> None:
        check_shared(self._settings, {name: d.capabilities for name, d in self._drivers.items()})

    def _bind(self, address: Address) -> Address:
        try:
            if self._certificates is None:
                port = self._server.add_insecure_port(str(address))
            else:
                credentials = self._certificates.for_grpc()
                port = self._server.add_secure_port(str(address), credentials)
        except RuntimeError as error:
            raise AddressError(f"cannot listen on {address}: {error}") from None
        return Address(address.host, port)


def check_shared(settings: Settings, stores: Mapping[str, Capabilities]) -> None:
    """Raises ConfigError if there are to be more processes than a store is for."""
    for name, capabilities in stores.items():
        if not capabilities.shared:
            url = shown_url(settings.all_stores[name])
            raise ConfigError(
                f"processes: {settings.processes} are asked for, but store {name} "
                f"({url}) is for one broker process at a time; keep its queues in a store that "
                "processes share (postgresql://, mysql://, redis://), or start one process"
            )


@contextmanager
def _refusing_options() -> Iterator[None]:
    try:
        yield
    except OptionRefused as refused:
        raise WrongSettings(refused.found) from None


def _read_certificates(tls: TlsSettings) -> "Certificates | None":
    """Raises ConfigError."""
    if not tls.enabled:
        return None
    # What reads them takes a fifth of the time in which a broker starts.
    from towline_broker.server.certificates import Certificates

    return Certificates(tls)


def _create_drivers(urls: Mapping[str, str], given: Mapping[str, Driver]) -> dict[str, Driver]:
    drivers = dict(given)
    for name in urls.keys() - given.keys():
        try:
            drivers[name] = create_driver(urls[name])
        except StoreRefused as error:
            raise error if len(urls) == 1 else StoreRefused(f"{name}: {error}") from None
    return {name: drivers[name] for name in urls}


@asynccontextmanager
async def running_broker(
    settings: Settings | None = None,
    *,
    driver: Driver | None = None,
    drivers: Mapping[str, Driver] | None = None,
    clock: Clock | None = None,
    telemetry: Telemetry | None = None,
) -> AsyncIterator[BrokerServer]:
    """A broker inside this process, for tests and for programs that bring their own.

    Without settings: jobs in memory, on any free port of loopback. ``server.address`` says where.
    ``driver`` takes the place of the default store's, ``drivers`` those of stores by name. Leaving
    drains it for up to 5 seconds.
    """
    given = {**({DEFAULT_STORE: driver} if driver else {}), **(drivers or {})}
    server = BrokerServer(
        settings or Settings(store="memory:", listen="127.0.0.1:0"),
        drivers=given,
        clock=clock,
        telemetry=telemetry,
    )
    await server.start()
    try:
        yield server
        await server.drain(5 * SECOND)
    finally:
        await server.stop()
