"""All figures of one broker process, as often as somebody asks for them."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from towline_broker.core.observing import Observing, Reading
from towline_broker.domain.time import Micros, to_seconds
from towline_broker.drivers.disk import free_bytes
from towline_broker.interceptors.measuring import MeasuredCalls
from towline_broker.interceptors.refusals import Refusals
from towline_broker.server.metrics import families, process_figures
from towline_broker.server.metrics.families import Row, Rows
from towline_broker.server.metrics.naming import Names
from towline_broker.server.metrics.rendering import render
from towline_broker.server.metrics.store_figures import StoreFigures
from towline_broker.server.metrics.system import of_system

#: Seconds that a store has for its answer. Prometheus gives up a scrape after 10.
PATIENCE = 3.0


class BrokerFigures:
    """``most_queues`` and ``most_types`` are named, the others counted together; ``max_age``: a
    store is asked again when its answer is older; ``certificates``: when they run out, in seconds
    since the Unix epoch; ``system``: what is told of the process."""

    def __init__(
        self,
        observing: Observing,
        calls: MeasuredCalls,
        refusals: Refusals,
        version: str,
        draining: Callable[[], bool],
        certificates: Callable[[], Mapping[str, float]] = dict,
        *,
        most_queues: int,
        most_types: int,
        max_age: Micros,
        system: Callable[[], Iterable[Rows]] = of_system,
        started_at: float | None = None,
    ) -> None:
        self._observing = observing
        self._calls = calls
        self._refusals = refusals
        self._version = version
        self._draining = draining
        self._certificates = certificates
        self._queues = Names(most_queues)
        self._types = Names(most_types)
        self._max_age = to_seconds(max_age)
        self._system = system
        self._started_at = time.time() if started_at is None else started_at
        self._rendering = asyncio.Lock()
        #: When the stores told what is in this text.
        self._told: Mapping[str, float] | None = None
        self._text = b""

    async def of_stores(self) -> bytes:
        """As text. Made anew only when a store was asked anew."""
        readings = await self.readings()
        async with self._rendering:
            told = {name: one.at for name, one in readings.items() if one is not None}
            if told != self._told:
                figures = StoreFigures(self._queues, self._types)
                await figures.add(readings)
                self._text = await render(figures.rows(self._observing.workers))
                self._told = told
            return self._text

    async def of_process(self) -> list[Rows]:
        """Rows are made when they are asked for, where there can be many."""
        readings = await self.readings()
        jobs = await process_figures.of_jobs(self._observing, self._queues)
        return [*self._process_rows(readings), *jobs, *self._system()]

    async def readings(self) -> Mapping[str, Reading | None]:
        return await self._observing.readings(self._max_age, PATIENCE)

    def _process_rows(self, readings: Mapping[str, Reading | None]) -> Iterator[Rows]:
        yield families.PROCESS_UP, [Row((), 1)]
        yield families.BUILD, [Row((self._version,), 1)]
        yield families.START, [Row((), self._started_at)]
        yield families.DRAINING, [Row((), int(self._draining()))]
        folders: dict[str, Path] = {
            load.name: load.capabilities.folder
            for load in self._observing.loads()
            if load.capabilities.folder is not None
        }
        free = process_figures.free_on_disks(folders, free_bytes)
        yield from process_figures.of_stores(self._observing, readings, free)
        yield process_figures.of_certificates(self._certificates())
        yield from process_figures.of_calls(self._calls)
        yield from process_figures.of_rights(self._refusals.counts)
