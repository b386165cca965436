"""From the records of a journal back to the settle memory.

Most of what a journal tells of is forgotten by its end. So rows are gathered as they are read, and
only those that live on become memories.
"""

from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.file.rows import EndedRow, EndedTogetherRow, Record
from towline_broker.drivers.memory.runs import LeaseKey
from towline_broker.drivers.memory.settled import Ended, SettleMemory

_STATES = {int(state): state for state in JobState}
_SETTLEMENTS = {int(settlement): settlement for settlement in Settlement}


class Memories:
    """Takes records one after the other, and then gives what is remembered."""

    def __init__(self) -> None:
        #: By the id of the job, with the number of its memory.
        self._ended: dict[str, tuple[int, Ended]] = {}
        #: Until when, number, settlement.
        self._settled: dict[LeaseKey, tuple[Micros, int, Settlement]] = {}
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
        self._apply_ended(record)
        for settled in record.settled:
            lease = (names[settled.queue], settled.job_id, names[settled.grant])
            how = _SETTLEMENTS[settled.settlement]
            self._settled[lease] = (settled.until, settled.number, how)
            if settled.number > self._added:
                self._added = settled.number

    def _apply_ended(self, record: Record) -> None:
        """What rows that follow each other have in common is kept once."""
        before: EndedRow | None = None
        ended: Ended | None = None
        for row in record.ended:
            if before is None or ended is None or row.result or not _alike(row, before):
                ended = _ended(row, record)
            before = row
            self._ended[row.id] = (row.number, ended)
            if row.number > self._added:
                self._added = row.number
        for together in record.ended_together:
            ended, number = _ended(together, record), together.number
            for offset, job_id in enumerate(together.ids):
                self._ended[job_id] = (number + offset, ended)
            self._added = max(self._added, number + len(together.ids) - 1)

    def finish(self, memory: SettleMemory) -> None:
        forgotten = self._forgotten
        memory.restore(
            (
                (number, job_id, ended)
                for job_id, (number, ended) in self._ended.items()
                if (ended.until, number) > forgotten
            ),
            (
                (until, number, lease, how)
                for lease, (until, number, how) in self._settled.items()
                if (until, number) > forgotten
            ),
            max(self._added, forgotten[1]),
        )


def _ended(row: EndedRow | EndedTogetherRow, record: Record) -> Ended:
    return Ended(
        record.names[row.queue],
        _STATES[row.state],
        record.now if row.finished_at is None else row.finished_at,
        row.until,
        row.number,
        None if row.grant is None else record.names[row.grant],
        row.result,
    )


def _alike(row: EndedRow, before: EndedRow) -> bool:
    """But for the job, and the number, which only grows."""
    return (
        row.number > before.number
        and row.queue == before.queue
        and row.grant == before.grant
        and row.state == before.state
        and row.until == before.until
        and row.finished_at == before.finished_at
        and row.result == before.result
    )
