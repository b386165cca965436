"""Whatever runs brokers shows them over HTTP, if the settings say so.

The libraries for it are loaded only then: they take a third of the time in which a broker starts.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from towline_broker.server.asking import Answers, Asked
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer


@asynccontextmanager
async def shown_over_http(settings: Settings) -> AsyncIterator[Callable[[BrokerServer], str]]:
    """While the context lasts; yields what is to be called once the broker of this process serves,
    and returns the url of what is shown; empty: nothing is.

    Raises AddressError, ConfigError.
    """
    if settings.http.address is None:
        yield lambda server: ""
        return
    from towline_broker.server.http.endpoint import http_endpoint
    from towline_broker.server.http.one_process import OneProcess
    from towline_broker.server.http.pages import routes

    shown = OneProcess(settings.http)

    def serves(server: BrokerServer) -> str:
        shown.serves(server)
        return opened.tell()

    opening = http_endpoint(
        settings.http, routes(shown), insecure=settings.insecure, tls=settings.tls
    )
    async with opening as opened:
        shown.web_certificate = opened.certificate_ends
        yield serves


@asynccontextmanager
async def processes_over_http(
    settings: Settings, members: Callable[[], Mapping[int, Asked]]
) -> AsyncIterator[Callable[[], str]]:
    """The same for several processes: ``members`` are those that serve, by number."""
    if settings.http.address is None:
        yield lambda: ""
        return
    from towline_broker.server.http.endpoint import http_endpoint
    from towline_broker.server.http.pages import routes
    from towline_broker.server.http.several_processes import SeveralProcesses

    shown = SeveralProcesses(members)
    opening = http_endpoint(
        settings.http, routes(shown), insecure=settings.insecure, tls=settings.tls
    )
    async with opening as opened:
        shown.web_certificate = opened.certificate_ends
        yield opened.tell


def answers_about(server: BrokerServer, settings: Settings) -> Answers:
    """What one of several processes tells the one that shows it."""
    if settings.http.address is None:
        return {}
    from towline_broker.server.http.one_process import OneProcess
    from towline_broker.server.http.several_processes import answers_of

    shown = OneProcess(settings.http)
    shown.serves(server)
    return answers_of(shown)
