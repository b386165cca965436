"""P8, P9, seen from inside: no job lies about while somebody waits for it, and none is forgotten by
its dead worker's broker, or leased to nobody."""

import asyncio
from collections.abc import Callable

from tests.simulation.loop import Loop
from tests.simulation.oracle import Oracle
from tests.simulation.server import Server
from towline_broker.core import tokens
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import SECOND, Micros
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.interface import Driver
from towline_broker.testing.model_job import ModelJob

#: Between two looks, in seconds.
_INTERVAL = 0.25
#: A lost lease is taken back within this, and one that could not be sent.
_PROMPT: Micros = 1 * SECOND
#: A job that is ready goes to a waiting worker within this.
_AT_ONCE: Micros = SECOND // 4


class Watch:
    def __init__(
        self,
        loop: Loop,
        server: Callable[[], Server | None],
        oracle: Oracle,
        violated: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._server = server
        self._oracle = oracle
        self._violated = violated
        #: The server that was there at the last look, and since when.
        self._known: Server | None = None
        self._since: Micros = 0
        #: How many records the journal had at the last look.
        self._appended = 0
        #: Jobs that were ready, and who stood first in their line then.
        self._seen: dict[str, object] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            self._look()

    def _look(self) -> None:
        server = self._server()
        if server is None:
            self._known = None
            return
        now = server.broker.clock.now()
        if server is not self._known or self._is_slow(server.driver):
            self._known, self._since = server, now
        seen, self._seen = self._seen, {}
        if now - self._since < 2 * _AT_ONCE:
            return
        for job in self._oracle.model.jobs:
            if job.state is JobState.READY and job.ready_at + _AT_ONCE < now:
                waiter = self._waiter(server, job.new.queue)
                if waiter is not None and seen.get(job.id) is waiter:
                    self._violated(
                        "P8 not handed out", f"job {job.id} is ready, and a worker waits"
                    )
                self._seen[job.id] = waiter
            elif now - self._since < 2 * _PROMPT:
                continue
            elif job.state is JobState.LEASED and job.lease_until + _PROMPT < now:
                self._violated("P8 orphan", f"job {job.id} lost its lease {job.lease_until}, {now}")
            elif job.state is JobState.LEASED and self._unsent(server, job, now):
                self._violated(
                    "P9 leased to nobody", f"job {job.id}, since {job.started_at}, {now}"
                )
            elif job.state is JobState.SCHEDULED and job.available_at + _PROMPT < now:
                self._violated("P8 overdue", f"job {job.id} was due at {job.available_at}, {now}")

    def _is_slow(self, driver: Driver) -> bool:
        """The disk keeps everybody waiting."""
        if not isinstance(driver, FileDriver) or driver._opened is None:
            return False
        journal, compaction = driver._opened.journal, driver._opened.compaction
        before, self._appended = self._appended, journal._appended
        makes_room = journal.room.spares <= journal.reserve or compaction._round.locked()
        return makes_room or journal._durable < before

    def _unsent(self, server: Server, job: ModelJob, now: Micros) -> bool:
        """Whether it has been leased for long, and by this server, and nobody was told."""
        leased_at = job.started_at or 0
        long_ago = self._since < leased_at < now - _PROMPT
        return long_ago and tokens.encode(job.ref) not in server.sent

    def _waiter(self, server: Server, queue: str) -> object:
        """The first who waits for the queue, and is not about to ask for its jobs."""
        line = server.broker._line._lines.get(queue)
        if not line or not self._oracle.model.gives(queue):
            return None
        waiter = next(iter(line))
        return waiter if waiter._event is not None and waiter._event._waiters else None
