"""Jobs by their ids, and all jobs in the order of their push."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import JobPage, JobRecord
from towline_broker.drivers.interface import CancelOutcome, CancelRequest, JobQuery
from towline_broker.drivers.redis import scripts
from towline_broker.drivers.redis.frames import groups
from towline_broker.drivers.redis.link.interface import Call
from towline_broker.drivers.redis.packing import StoredJob, unpack_memory
from towline_broker.drivers.redis.partitions import MOST, PartitionedStore, together

_NUMBER = re.compile("[0-9]{1,15}")


def stored_jobs(blob: bytes) -> list[StoredJob]:
    return [StoredJob(*parts) for parts in groups(blob, 3)]


def unknown_cursor() -> InvalidField:
    return InvalidField("page_token", "this store never gave such a token")


class Looking(PartitionedStore):
    async def get(self, job_id: str) -> JobRecord | None:
        remembered = None
        for reply in await self._ask(scripts.GET, job_id):
            if reply is None:
                continue
            kind, found = reply
            if kind == b"job":
                return stored_jobs(found)[0].record()
            remembered = unpack_memory(job_id, found)
        return remembered

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        """A job is in one partition only, but nothing tells in which."""
        outcomes: list[CancelOutcome] = []
        for first in range(0, len(request.job_ids), MOST):
            ids = request.job_ids[first : first + MOST]
            replies = await together(
                self._change(scripts.CANCEL, each, request.now, request.remember_until, *ids)
                for each in self._partitions
            )
            answers = zip(*(reply[0].decode() for reply in replies), strict=True)
            # Of the numbers of the outcomes, that of NOT_FOUND is the highest.
            outcomes += [CancelOutcome(int(min(digits))) for digits in answers]
        return outcomes

    async def list_jobs(self, query: JobQuery) -> JobPage:
        places = self._places(query.cursor)
        limit = max(1, min(query.limit, MOST))
        states = "".join(str(int(state)) for state in query.states)
        chosen = (query.queue or "", query.type or "", states)
        replies = await self._link.run_all(
            [
                Call(scripts.LIST_JOBS, each, [place, limit, *chosen])
                for each, place in enumerate(places)
            ]
        )
        pages = [
            _Page(stored_jobs(blob), place, last.decode())
            for place, (blob, last) in zip(places, replies, strict=True)
        ]
        records = _merge(pages, limit)
        if all(page.at_end for page in pages):
            return JobPage(records)
        return JobPage(records, ".".join(page.place for page in pages))

    def _places(self, cursor: str | None) -> Sequence[str]:
        """Of each partition the number of the job that the listing goes on behind."""
        if cursor is None:
            return ["0"] * self._link.partitions
        places = cursor.split(".")
        if len(places) != self._link.partitions or not all(map(_NUMBER.fullmatch, places)):
            raise unknown_cursor()
        return places


@dataclass(slots=True)
class _Page:
    """Jobs of one partition, and how far they were taken."""

    jobs: list[StoredJob]
    #: The listing goes on behind this number ...
    place: str
    #: ... and once all of the page is taken, behind this one; empty: there is no more.
    last: str
    taken: int = 0

    @property
    def exhausted(self) -> bool:
        return self.taken == len(self.jobs)

    @property
    def at_end(self) -> bool:
        return self.exhausted and not self.last

    def key(self) -> int:
        head = self.jobs[self.taken].head
        return head.order or head.enqueued_at

    def take(self) -> StoredJob:
        job = self.jobs[self.taken]
        self.taken += 1
        self.place = job.number.decode()
        return job


def _merge(pages: Sequence[_Page], limit: int) -> list[JobRecord]:
    """The jobs that come first in all pages, as far as the pages tell."""
    records: list[JobRecord] = []
    while len(records) < limit:
        if any(page.exhausted and page.last for page in pages):
            break
        able = [page for page in pages if not page.exhausted]
        if not able:
            break
        records.append(min(able, key=_Page.key).take().record())
    for page in pages:
        if page.exhausted and page.last:
            page.place = page.last
    return records
