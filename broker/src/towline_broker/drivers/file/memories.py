"""From the records of a journal back to the settle memory.

Most of what a journal tells of is forgotten by its end. So rows are gathered as they are read, and
only those that live on become memories.
"""

from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.file.rows import Record
from towline_broker.drivers.memory.settled import Ended, SettleMemory

_STATES = {int(state): int(state) for state in JobState}
_SETTLEMENTS = {int(settlement): settlement for settlement in Settlement}


class Memories:
    """Takes records one after the other, and then gives what is remembered."""

    def __init__(self) -> None:
        #: By the id of the job, until when.
        self._ended: dict[str, tuple[Micros, Ended]] = {}
        #: By queue, job and grant: until when, number, settlement.
        self._settled: dict[tuple[str, str, str], tuple[Micros, int, Settlement]] = {}
        #: Everything up to this end and number is. It only ever grows.
        self._forgotten: tuple[Micros, int] = (0, 0)
        self._added = 0

    def apply(self, record: Record) -> None:
        names = record.names
        for job_id in record.disowned:
            self._ended.pop(job_id, None)
        if record.forgotten is not None:
            bound = (record.forgotten.until, record.forgotten.number)
            self._forgotten = max(self._forgotten, bound)
        for ended in record.ended:
            at = record.now if ended.finished_at is None else ended.finished_at
            what = (names[ended.queue], _STATES[ended.state], ended.result, at, ended.number)
            self._ended[ended.id] = (ended.until, what)
            if ended.number > self._added:
                self._added = ended.number
        for settled in record.settled:
            lease = (names[settled.queue], settled.job_id, names[settled.grant])
            how = _SETTLEMENTS[settled.settlement]
            self._settled[lease] = (settled.until, settled.number, how)
            if settled.number > self._added:
                self._added = settled.number

    def finish(self, memory: SettleMemory) -> None:
        forgotten = self._forgotten
        memory.restore(
            (
                ((until, what[-1], job_id, None), what)
                for job_id, (until, what) in self._ended.items()
                if (until, what[-1]) > forgotten
            ),
            (
                ((until, number, "", lease), how)
                for lease, (until, number, how) in self._settled.items()
                if (until, number) > forgotten
            ),
            max(self._added, forgotten[1]),
        )
