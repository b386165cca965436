"""A broker in this process, as the HTTP server shows it."""

from collections.abc import Callable
from enum import StrEnum

from towline_broker.core.observing import Observing
from towline_broker.server.http.watched import Health, NotYet
from towline_broker.server.metrics.exposition import PATIENCE, BrokerFigures
from towline_broker.server.metrics.rendering import render

#: Seconds for which an answer of a store counts.
RECENT = 1.0


class Stage(StrEnum):
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class OneProcess:
    def __init__(
        self, figures: BrokerFigures, observing: Observing, stage: Callable[[], Stage]
    ) -> None:
        self.figures = figures
        self._observing = observing
        self._stage = stage

    async def metrics(self) -> bytes:
        """Raises NotYet."""
        if self._stage() is Stage.STARTING:
            raise NotYet
        return await self.figures.of_stores() + await render(await self.figures.of_process())

    async def health(self) -> Health:
        stage = self._stage()
        if stage is Stage.STARTING:
            return Health([f"the broker is {stage}"], [])
        stores = await self._observing.answering(RECENT, PATIENCE)
        silent = [
            f"store {name} gives no answer" for name, answers in stores.items() if not answers
        ]
        draining = [f"the broker is {stage}"] if stage is Stage.DRAINING else []
        # Queues of the other stores are served.
        if len(silent) < len(stores):
            return Health(draining, silent)
        return Health([*draining, *silent], [])
