"""A broker in this process, shown over HTTP, and what a client of that sees."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.calls import Calls, calls_to
from towline_broker.core.clock import Clock
from towline_broker.drivers.interface import Driver
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.http.endpoint import http_endpoint
from towline_broker.server.http.one_process import OneProcess
from towline_broker.server.http.pages import routes
from towline_broker.server.metrics.families import Rows
from towline_broker.server.metrics.system import of_system
from towline_broker.server.serving import BrokerServer

ANY_PORT = "127.0.0.1:0"


@dataclass(frozen=True)
class Shown:
    server: BrokerServer
    calls: Calls
    web: httpx.AsyncClient

    async def scrape(self) -> str:
        answer = await self.web.get("/metrics")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def samples(self) -> "Samples":
        return samples(await self.scrape())


#: Name and labels of a sample to its value.
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(of: Samples, name: str, **labels: str) -> float:
    return of[name, frozenset(labels.items())]


@asynccontextmanager
async def shown_broker(
    settings: Settings | None = None,
    *,
    drivers: Mapping[str, Driver] | None = None,
    clock: Clock | None = None,
    system: Callable[[], Iterable[Rows]] = of_system,
    timer: Callable[[], float] | None = None,
    since: float | None = None,
) -> AsyncIterator[Shown]:
    settings = settings or Settings(
        store="memory:", listen=ANY_PORT, http=HttpSettings(listen=ANY_PORT)
    )
    server = BrokerServer(settings, drivers=drivers, clock=clock)
    if timer is not None:
        server.calls.timer = timer
    await server.start()
    try:
        process = OneProcess(settings.http, system)
        process.serves(server, since)
        async with (
            http_endpoint(settings.http, routes(process)) as opened,
            calls_to(str(server.address)) as calls,
            httpx.AsyncClient(base_url=f"http://{opened.address}") as web,
        ):
            yield Shown(server, calls, web)
    finally:
        await server.stop()
