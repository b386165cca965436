"""A broker in this process, as the HTTP server shows it."""

from collections.abc import Callable, Iterable, Mapping

from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.http.watched import Health, NotYet
from towline_broker.server.metrics.exposition import BrokerFigures
from towline_broker.server.metrics.families import Rows
from towline_broker.server.metrics.rendering import render
from towline_broker.server.metrics.system import of_system
from towline_broker.server.serving import VERSION, BrokerServer

#: Seconds for which an answer of a store counts.
RECENT = 1.0
#: Seconds that a store has for it: probes are less patient than scrapes.
PROBE_PATIENCE = 1.0


class OneProcess:
    """Starting, until :meth:`serves` tells of the broker. ``system``: what is told of the process
    itself."""

    def __init__(
        self, settings: HttpSettings, system: Callable[[], Iterable[Rows]] = of_system
    ) -> None:
        self._settings = settings
        self._system = system
        self._server: BrokerServer | None = None
        self._figures: BrokerFigures | None = None
        #: When the certificate that serves over HTTP runs out, if one does.
        self.web_certificate: Callable[[], Mapping[str, float]] = dict

    def serves(self, server: BrokerServer, since: float | None = None) -> None:
        """``since``: seconds since the Unix epoch, if it is not from now on."""
        self._server = server
        self._figures = BrokerFigures(
            server.broker.observing,
            server.calls,
            server.access.refusals,
            VERSION,
            lambda: server.draining,
            lambda: {**server.certificate_ends, **self.web_certificate()},
            most_queues=self._settings.queues,
            most_types=self._settings.types,
            max_age=self._settings.max_age,
            system=self._system,
            started_at=since,
        )

    @property
    def figures(self) -> BrokerFigures:
        """Raises NotYet."""
        if self._figures is None:
            raise NotYet
        return self._figures

    async def metrics(self) -> bytes:
        """Raises NotYet."""
        figures = self.figures
        return await figures.of_stores() + await render(await figures.of_process())

    async def health(self) -> Health:
        if self._server is None:
            return Health(["the broker is starting"], [])
        stores = await self._server.broker.observing.answering(RECENT, PROBE_PATIENCE)
        silent = [f"store {name} gives no answer" for name, there in stores.items() if not there]
        problems = ["the broker is draining"] if self._server.draining else []
        if len(silent) == len(stores):
            problems += silent
            silent = []
        # With some stores silent, the queues of the others are served.
        return Health(problems, silent)
