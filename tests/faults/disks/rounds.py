"""What clients do, in rounds, beside a model that says how things must stand afterwards.

In a round every queue sees one call, all at the same time, or one call is made for the whole store.
What comes next follows from the seed, the number of the round and the model alone. So whoever holds
a copy of the model at the same round, as a forked process does, makes the very same calls.
"""

import random
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload
from uuid import UUID

from msgspec.structs import replace

from towline_broker.domain.jobs import (
    DeadReason,
    Failure,
    JobPage,
    JobRecord,
    JobState,
    Leased,
    LeaseRef,
    NewJob,
    Progress,
    Settlement,
)
from towline_broker.domain.time import HOUR, MINUTE, SECOND, Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    CancelRequest,
    DeadFilter,
    DeadQuery,
    DeadSelection,
    Driver,
    ExtendBatch,
    Extended,
    ExtendItem,
    JobQuery,
    NackBatch,
    NackItem,
    PurgeRequest,
    PushBatch,
    ReserveRequest,
)
from towline_broker.drivers.memory import open_memory
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard

QUEUES = ("mail", "pictures", "reports")
ALL = 100_000
LEASE = 5 * MINUTE
#: How long settle memories are kept: some rounds.
MEMORY = 40 * SECOND
#: Above so many stored jobs a queue sees less of Push.
CROWDED = 12

Call = Callable[[Driver], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Act:
    """``queue``: None if it concerns them all."""

    queue: str | None
    name: str
    call: Call
    #: Jobs that it is about, as far as it names them.
    items: int = 1


class Rounds:
    """One for each store; ``model`` is a store that loses nothing, in memory."""

    def __init__(self, seed: int, payload: int = 3_000) -> None:
        """``payload``: about how many bytes a job has."""
        self.model: Driver = open_memory("memory:")
        self.now: Micros = START
        self.number = 0
        #: What was answered, in jobs, by the kind of call.
        self.answered: Counter[str] = Counter()
        self._seed = seed
        self._payload = payload
        self._pushed = 0
        #: Leases that ended, and jobs that were pushed with their queues, in the last rounds.
        self._settled: list[LeaseRef] = []
        self._seen: list[tuple[str, str]] = []

    async def open(self) -> None:
        await self.model.open(self.now, Heard())

    async def next(self) -> list[Act]:
        self.number += 1
        chance = random.Random(f"{self._seed} {self.number}")
        self.now += chance.choice((1, 2, 5)) * SECOND
        self._settled, self._seen = self._settled[-60:], self._seen[-60:]
        if self.number % 4 == 0:
            return [self._upkeep(chance)]
        return [await self._act(queue, chance) for queue in QUEUES]

    # --- for the whole store ------------------------------------------------------------------

    def _upkeep(self, chance: random.Random) -> Act:
        now = self.now
        upkeep: dict[str, Call] = {
            "promote": lambda driver: driver.promote(now, ALL),
            "expire": lambda driver: driver.expire(now, ALL),
            "forget": lambda driver: _forget(driver, now),
        }
        if chance.random() < 0.05:
            return Act(None, "reset totals", lambda driver: driver.reset_totals())
        name = chance.choice(list(upkeep))
        return Act(None, name, upkeep[name])

    # --- for one queue ------------------------------------------------------------------------

    async def _act(self, queue: str, chance: random.Random) -> Act:
        records = await all_of(self.model, queue)
        by_state: dict[JobState, list[str]] = {state: [] for state in JobState}
        for record in records:
            by_state[record.state].append(record.id)
        choices = {
            "push": 4.0 if len(records) < CROWDED else 0.5,
            "reserve": 3.0 * bool(by_state[JobState.READY]),
            "settle": 6.0 * bool(by_state[JobState.LEASED]),
            "extend": 0.7 * bool(by_state[JobState.LEASED]),
            "cancel": 0.4 * bool(records),
            "dead": 1.0 * bool(by_state[JobState.DEAD]),
            "pause": 0.15 * bool(records),
            "purge": 0.1 * bool(records),
        }
        name = chance.choices(list(choices), list(choices.values()))[0]
        if name == "push":
            return self._push(queue, chance)
        if name == "reserve":
            return self._reserve(queue, chance)
        if name in ("settle", "extend"):
            leased = await self._live_leases(queue)
            refs = chance.sample(leased, chance.randint(1, min(3, len(leased))))
            return self._settle(queue, refs, chance) if name == "settle" else self._extend(refs)
        if name == "cancel":
            ids = chance.sample([record.id for record in records], 1)
            request = CancelRequest(ids, self.now, self.now + MEMORY)
            return Act(queue, name, lambda driver: driver.cancel(request))
        if name == "dead":
            return self._dead(queue, by_state[JobState.DEAD], chance)
        if name == "pause":
            paused = any(one.paused for one in await self.model.queues() if one.name == queue)
            return Act(queue, name, lambda driver: driver.set_paused(queue, not paused))
        purge = PurgeRequest(queue, ALL, self.now, self.now + MEMORY)
        return Act(queue, name, lambda driver: driver.purge(purge))

    def _push(self, queue: str, chance: random.Random) -> Act:
        jobs = [self._new_job(queue, chance) for _ in range(chance.randint(1, 3))]
        self._seen += [(queue, job.id) for job in jobs]
        batch = PushBatch(jobs, self.now)
        return Act(queue, "push", lambda driver: driver.push(batch), len(jobs))

    def _new_job(self, queue: str, chance: random.Random) -> NewJob:
        self._pushed += 1
        now, some = self.now, chance.random()
        return NewJob(
            str(UUID(int=(self._seed << 64) + self._pushed)),
            queue,
            chance.choice(("Send", "Draw")),
            chance.randbytes(chance.randint(1, 2 * self._payload)),
            priority=chance.choice((0, 0, 5)),
            due_at=now + 8 * SECOND if some < 0.2 else None,
            expires_at=now + 20 * SECOND if 0.2 < some < 0.3 else None,
            retention=chance.choice((0, 0, 30 * SECOND)),
            unique_key=f"key-{chance.randrange(4)}" if 0.3 < some < 0.5 else None,
            unique_until=now + 15 * SECOND if 0.3 < some < 0.4 else None,
        )

    def _reserve(self, queue: str, chance: random.Random) -> Act:
        grant = f"grant-{queue}-{self.number}"
        request = ReserveRequest(
            [queue], chance.randint(1, 4), LEASE, grant, self.now, "worker", grant
        )
        return Act(queue, "reserve", lambda driver: driver.reserve(request))

    def _settle(self, queue: str, refs: Sequence[LeaseRef], chance: random.Random) -> Act:
        now = self.now
        self._settled += refs
        failure = Failure("ValueError", "no such customer", "x" * 200, now)
        how = chance.random()
        if how < 0.5:
            acks = AckBatch([AckItem(ref, b"result") for ref in refs], now, now + MEMORY)
            return Act(queue, "ack", lambda driver: driver.ack(acks), len(refs))
        if how < 0.7:
            due = now + chance.choice((0, 7)) * SECOND
            name, nacks = (
                "retry",
                [NackItem(r, Settlement.RETRIED, due, None, failure) for r in refs],
            )
        elif how < 0.8:
            name, nacks = "release", [NackItem(ref, Settlement.RELEASED) for ref in refs]
        elif how < 0.9:
            # Behind every deadline, wherever a restart has moved it.
            self.now = now = now + HOUR
            name, nacks = "lost", [NackItem(ref, Settlement.LOST) for ref in refs]
        else:
            reason = DeadReason.REJECTED
            buried = Settlement.DEAD_LETTERED
            name, nacks = "bury", [NackItem(ref, buried, None, reason, failure) for ref in refs]
        batch = NackBatch(nacks, now, now + MEMORY)
        return Act(queue, name, lambda driver: driver.nack(batch), len(refs))

    def _extend(self, refs: Sequence[LeaseRef]) -> Act:
        progress = Progress(0.5, "half way", b"checkpoint")
        batch = ExtendBatch([ExtendItem(ref, LEASE, progress) for ref in refs], self.now)
        return Act(refs[0].queue, "extend", lambda driver: driver.extend(batch))

    def _dead(self, queue: str, ids: Sequence[str], chance: random.Random) -> Act:
        selection = DeadSelection(ALL, self.now, chance.sample(ids, chance.randint(1, len(ids))))
        if chance.random() < 0.6:
            return Act(queue, "requeue", lambda driver: driver.requeue_dead(selection))
        until = self.now + MEMORY
        return Act(queue, "discard", lambda driver: driver.discard_dead(selection, until))

    async def _live_leases(self, queue: str) -> list[LeaseRef]:
        live = await self.model.expired_leases(self.now + 100 * HOUR, ALL)
        return [one.ref for one in live if one.ref.queue == queue]

    # --- comparing ----------------------------------------------------------------------------

    async def portrait(self, driver: Driver, queue: str) -> dict[str, Any]:
        """All that can be seen of a queue, but for the ends of leases: a restart moves them."""
        records = await all_of(driver, queue)
        dead = await all_dead(driver, queue)
        leases = await driver.leases(
            await self._live_leases(queue) + [ref for ref in self._settled if ref.queue == queue]
        )
        return {
            "jobs": sorted(records, key=lambda record: record.id),
            "order": [record.id for record in records],
            "dead": sorted(dead, key=lambda record: record.id),
            "leases": [None if one is None else replace(one, lease_until=0) for one in leases],
            "known": [_told(await driver.get(one)) for place, one in self._seen if place == queue],
            "queue": [one for one in await driver.queues() if one.name == queue],
            "counts": sorted(repr(one) for one in await driver.counts() if one.queue == queue),
            "oldest": (await driver.oldest_ready()).get(queue),
        }

    async def repeated(self, driver: Driver) -> list[Any]:
        """What is answered to those who settle again what was settled. To be asked only where the
        portraits agree, for then it changes nothing."""
        live = {ref for queue in QUEUES for ref in await self._live_leases(queue)}
        acks = [AckItem(ref) for ref in self._settled if ref not in live]
        settled = await driver.ack(AckBatch(acks, self.now, self.now + MEMORY)) if acks else []
        known = [one for one in self._seen if await self.model.get(one[1]) is not None]
        again = [NewJob(job_id, queue, "Send") for queue, job_id in known]
        outcomes = await driver.push(PushBatch(again, self.now)) if again else []
        return [settled, outcomes]


async def _forget(driver: Driver, now: Micros) -> None:
    # How many records that are depends on how a store keeps them.
    await driver.forget(now, ALL)


def normalized(answer: Any) -> Any:
    """What was answered, without the ends of leases."""
    if isinstance(answer, list):
        return [normalized(one) for one in answer]
    if isinstance(answer, Leased):
        return replace(answer, lease_until=0, envelope=_digest(answer.envelope))
    if isinstance(answer, Extended) and answer.lease_until is not None:
        return replace(answer, lease_until=0)
    return answer


async def all_of(driver: Driver, queue: str) -> list[JobRecord]:
    return await _all(lambda cursor: driver.list_jobs(JobQuery(1_000, queue, cursor=cursor)))


async def all_dead(driver: Driver, queue: str) -> list[JobRecord]:
    which = DeadFilter(queue)
    return await _all(lambda cursor: driver.list_dead(DeadQuery(1_000, which, cursor)))


async def _all(page_after: Callable[[str | None], Awaitable[JobPage]]) -> list[JobRecord]:
    page = await page_after(None)
    records = list(page.records)
    while page.next_cursor is not None:
        page = await page_after(page.next_cursor)
        records += page.records
    return [_told(one) for one in records]


@overload
def _told(record: JobRecord) -> JobRecord: ...
@overload
def _told(record: JobRecord | None) -> JobRecord | None: ...
def _told(record: JobRecord | None) -> JobRecord | None:
    """Without the end of its lease, and short enough to be read."""
    if record is None:
        return None
    return replace(record, lease_until=None, envelope=_digest(record.envelope))


def _digest(envelope: bytes) -> bytes:
    return b"%d bytes, %08x" % (len(envelope), zlib.crc32(envelope))
