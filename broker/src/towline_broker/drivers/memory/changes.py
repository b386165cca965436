"""What one call has touched, for whoever keeps a record of the state outside of it.

Told are the jobs, keys, tallies and queues that may now stand differently, not how they came to:
how they stand is read from them afterwards. So a record says what was, whatever a later version of
the engine would make of the same call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.records import Job, Tally, by_tally
from towline_broker.drivers.memory.runs import Run

#: Parts of a job, to be added up. Its state, place, times, attempts and lease:
STANDING = 1
FAILURE = 2
PROGRESS = 4
RESULT = 8
#: It is new.
WHOLE = 16


@dataclass(slots=True)
class Changes:
    #: Jobs that are new or have changed, and in their ``dirty`` which parts of them. Some may be
    #: gone by now.
    jobs: list[Job] = field(default_factory=list)
    #: New jobs that are READY and have come together, with numbers and places that follow each
    #: other; and jobs that a grant has just made LEASED. Neither are among ``jobs``.
    pushed: list[Job] = field(default_factory=list)
    granted: list[Job] = field(default_factory=list)
    #: Ids of jobs that were removed.
    gone: list[str] = field(default_factory=list)
    #: Memories that were added.
    remembered: list[Run] = field(default_factory=list)
    #: Ids of jobs that the settle memory was made to forget before their time.
    disowned: list[str] = field(default_factory=list)
    #: Every memory up to this end and number is forgotten.
    forgotten: tuple[Micros, int] | None = None
    #: Queue and key.
    keys: dict[tuple[str, str], None] = field(default_factory=dict)
    tallies: list[Tally] = field(default_factory=list)
    queues: dict[str, None] = field(default_factory=dict)

    def note(self, job: Job, parts: int) -> None:
        if not job.dirty:
            self.jobs.append(job)
        job.dirty |= parts
        if not job.tally.dirty:
            self.note_tally(job.tally)

    def note_pushed(self, jobs: Sequence[Job]) -> None:
        self.pushed.extend(jobs)
        self._note_tallies(jobs)

    def note_granted(self, jobs: Sequence[Job]) -> None:
        self.granted.extend(jobs)
        self._note_tallies(jobs)

    def _note_tallies(self, jobs: Sequence[Job]) -> None:
        for tally in by_tally(jobs):
            self.note_tally(tally)

    def note_tally(self, tally: Tally) -> None:
        if not tally.dirty:
            tally.dirty = True
            self.tallies.append(tally)

    def clear_marks(self) -> None:
        """Jobs and tallies are as if nothing had changed, for the changes to come."""
        for job in self.jobs:
            job.dirty = 0
        for tally in self.tallies:
            tally.dirty = False

    def __bool__(self) -> bool:
        return bool(
            self.jobs
            or self.pushed
            or self.granted
            or self.gone
            or self.remembered
            or self.disowned
            or self.forgotten
            or self.keys
            or self.tallies
            or self.queues
        )
