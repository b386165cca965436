"""Bugs in sharing a store: each is a driver of the shared memory store that departs from what it
owes. Races are opened by giving way to the other broker between looking and doing."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from tests.contract.shared_memory import Server, SharedDriver
from towline_broker.domain.jobs import JobState, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Listener, PushOutcome, PushResult, QueueState
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.events import Events
from towline_broker.drivers.memory.records import Lease, all_leased

#: Each with a contract test that must fail on it.
SHARING_BUGS: dict[type[SharedDriver], str] = {}


def bug(caught_by: str) -> Callable[[type[SharedDriver]], type[SharedDriver]]:
    def add(driver: type[SharedDriver]) -> type[SharedDriver]:
        SHARING_BUGS[driver] = caught_by
        return driver

    return add


async def give_way() -> None:
    await asyncio.sleep(0)


# --- time and leases ------------------------------------------------------------------------------


@bug("test_p10_opening_and_asking_tell_the_time_of_the_store")
class OpensWithTheTimeItWasGiven(SharedDriver):
    async def open(self, now: Micros, listener: Listener) -> Micros:
        await super().open(now, listener)
        return now


@bug("test_p10_opening_and_asking_tell_the_time_of_the_store")
class TellsTheTimeItWasGiven(SharedDriver):
    async def time(self, now: Micros) -> Micros:
        return now


@bug("test_p10_leases_keep_their_deadlines_through_a_crash")
class GivesFreshTermsAtOpening(SharedDriver):
    async def open(self, now: Micros, listener: Listener) -> Micros:
        state = self.server.engine._state
        for job in state.jobs.values():
            if job.lease is not None:
                state.set_lease(job, job.lease._replace(until=now + job.lease.length))
        return await super().open(now, listener)


@bug("test_p1_a_broker_that_closes_leaves_the_others_at_work")
class TakesItsLeasesWithIt(SharedDriver):
    async def close(self) -> None:
        state = self.server.engine._state
        for job in list(state.jobs.values()):
            if job.state is JobState.LEASED:
                state.wait(job, job.available_at)
        await super().close()


@bug("test_p1_a_broker_that_crashes_leaves_the_others_at_work")
class TakesTheStoreWithIt(SharedDriver):
    async def close(self) -> None:
        await super().close()
        self.server.engine._state = Engine()._state


# --- news -----------------------------------------------------------------------------------------


class ChangesNews(SharedDriver):
    """What the peers are told is what ``news`` makes of it."""

    def news(self, events: Events) -> Events:
        return events

    def _tell(self) -> None:
        events = self.server.engine.take_events()
        self.hear(events)
        for peer in self.server.drivers:
            if peer is not self:
                asyncio.get_running_loop().call_soon(peer.hear, self.news(events))


@bug("test_p8_every_broker_is_told_of_jobs_that_become_ready")
class TellsNobodyOfReadyJobs(ChangesNews):
    def news(self, events: Events) -> Events:
        return Events(ended=events.ended)


@bug("test_p8_every_broker_is_told_of_jobs_that_ended")
class TellsNobodyOfEndedJobs(ChangesNews):
    def news(self, events: Events) -> Events:
        return Events(ready=events.ready)


@bug("test_p8_large_batches_are_told_in_full")
class CutsLongNews(ChangesNews):
    def news(self, events: Events) -> Events:
        return Events(Counter(dict(events.ready.most_common(5))), events.ended[:500])


@bug("test_p8_a_broker_is_told_at_once_of_what_it_did_itself")
class HearsOfItselfLate(SharedDriver):
    def _tell(self) -> None:
        events = self.server.engine.take_events()
        for driver in self.server.drivers:
            asyncio.get_running_loop().call_later(0.01, driver.hear, events)


@bug("test_p8_a_broker_is_told_once_of_what_it_did_itself")
class HearsItsOwnEcho(SharedDriver):
    def _tell(self) -> None:
        events = self.server.engine.take_events()
        self.hear(events)
        for driver in self.server.drivers:
            asyncio.get_running_loop().call_soon(driver.hear, events)


@bug("test_p8_a_broker_that_comes_is_told_what_is_ready")
class ComesWithoutNews(SharedDriver):
    async def open(self, now: Micros, listener: Listener) -> Micros:
        self.server.drivers.append(self)
        self._listener = listener
        return self.server.time()


@bug("test_p8_a_broker_that_comes_back_is_told_again")
class HearsNothingOnceItCameBack(SharedDriver):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.came_back = len(server.drivers) < server.made
        server.made += 1

    async def open(self, now: Micros, listener: Listener) -> Micros:
        seen = await super().open(now, listener)
        if self.came_back:
            self.server.drivers.remove(self)
        return seen


# --- races ----------------------------------------------------------------------------------------


@bug("test_p2_concurrent_reserves_get_distinct_jobs_and_all_of_them")
class LeasesOverlap(SharedDriver):
    async def reserve(self, request: Any) -> Any:
        jobs = self.server.engine._state.jobs.values()
        ready = [job for job in jobs if job.state is JobState.READY]
        await give_way()
        taken = [job for job in ready if job.state is JobState.LEASED]
        if not taken:
            return await super().reserve(request)
        length = request.lease
        lease = Lease(request.grant, request.now, request.now + length, length, "", "")
        return all_leased(taken[: request.max_jobs], lease)


@bug("test_p2_concurrent_reserves_get_distinct_jobs_and_all_of_them")
class JobsAreForgottenInARace(SharedDriver):
    async def reserve(self, request: Any) -> Any:
        self.server.at_work += 1
        await give_way()
        leased = await super().reserve(request)
        if self.server.at_work > 4:
            state = self.server.engine._state
            for one in leased[:1]:
                del state.leases._jobs[one.lease_until][one.ref.job_id]
                leased = leased[1:]
        self.server.at_work -= 1
        return leased


@bug("test_p3_the_same_job_pushed_at_both_is_stored_once")
class BothCreate(SharedDriver):
    async def push(self, batch: Any) -> Any:
        known = [await self.get(job.id) for job in batch.jobs]
        await give_way()
        results = await super().push(batch)
        created = PushOutcome.CREATED
        return [
            PushResult(result.job_id, created) if was is None else result
            for was, result in zip(known, results, strict=True)
        ]


@bug("test_p3_a_unique_key_pushed_at_both_is_given_to_one")
class BothTakeTheKey(SharedDriver):
    async def push(self, batch: Any) -> Any:
        keys = self.server.engine._state.keys
        free = [
            job.unique_key is not None and keys.holder(job.queue, job.unique_key, batch.now) is None
            for job in batch.jobs
        ]
        await give_way()
        jobs = [
            replace(job, unique_key=None) if was_free and _is_held(keys, job, batch.now) else job
            for job, was_free in zip(batch.jobs, free, strict=True)
        ]
        return await super().push(replace(batch, jobs=jobs))


def _is_held(keys: Any, job: Any, now: Micros) -> bool:
    return keys.holder(job.queue, job.unique_key, now) is not None


@bug("test_p3_new_queues_and_types_made_at_both_are_one")
class BothMakeTheQueue(SharedDriver):
    async def push(self, batch: Any) -> Any:
        new = {job.queue for job in batch.jobs} - set(self.server.engine._state.queues)
        await give_way()
        results = await super().push(batch)
        self.server.made_twice += [name for name in new if name in self.server.made_once]
        self.server.made_once |= new
        return results

    async def queues(self) -> list[QueueState]:
        return [
            *await super().queues(),
            *(QueueState(one, False) for one in self.server.made_twice),
        ]


@bug("test_p3_a_lease_acked_at_both_is_settled_once")
class BothSettle(SharedDriver):
    async def ack(self, batch: Any) -> Any:
        live = await self.leases([item.ref for item in batch.acks])
        await give_way()
        settled = await super().ack(batch)
        return [
            replace(one, applied=True) if was is not None else one
            for one, was in zip(settled, live, strict=True)
        ]


@bug("test_p3_of_an_ack_a_nack_and_a_cancel_at_once_one_takes_place")
class NackAndAckBothTakePlace(SharedDriver):
    async def nack(self, batch: Any) -> Any:
        live = await self.leases([item.ref for item in batch.nacks])
        await give_way()
        settled = await super().nack(batch)
        return [
            replace(one, applied=True) if was is not None else one
            for one, was in zip(settled, live, strict=True)
        ]

    async def ack(self, batch: Any) -> Any:
        await give_way()
        return await super().ack(batch)


@bug("test_p8_upkeep_at_both_does_everything_once")
class BothPromote(SharedDriver):
    async def promote(self, now: Micros, limit: int) -> int:
        due = self.server.engine._state.due.due(now, limit)
        await give_way()
        await super().promote(now, limit)
        return len(due)


@bug("test_p3_leases_that_ran_out_are_taken_back_once")
class BothTakeBack(SharedDriver):
    async def nack(self, batch: Any) -> Any:
        await give_way()
        settled = await super().nack(batch)
        return [
            replace(one, applied=one.applied or one.before is Settlement.LOST) for one in settled
        ]


@bug("test_p3_requeue_and_purge_at_both_handle_each_job_once")
class BothRequeue(SharedDriver):
    async def requeue_dead(self, selection: Any) -> Any:
        matched = await self.count_dead(selection)
        await give_way()
        handled = await super().requeue_dead(selection)
        return replace(handled, handled=min(matched, selection.limit))


@bug("test_counts_are_exact_when_both_work_at_once")
class CountsAreLostInARace(SharedDriver):
    async def push(self, batch: Any) -> Any:
        tallies = self.server.engine._state.tallies
        seen = {name: tally.totals.pushed for name, tally in tallies.items()}
        await give_way()
        results = await super().push(batch)
        for job in batch.jobs[:1]:
            tally = tallies[job.queue, job.type]
            tally.totals.pushed = seen.get((job.queue, job.type), 0) + len(batch.jobs)
        return results


@bug("test_p3_transfers_received_and_dropped_at_both_come_and_go_once")
class BothReceive(SharedDriver):
    async def receive(self, transfers: Any, now: Micros) -> int:
        fresh = [one for one in transfers if await self.get(one.new.id) is None]
        await give_way()
        await super().receive(transfers, now)
        return len(fresh)


# --- what a broker keeps to itself ----------------------------------------------------------------


@bug("test_queues_and_types_made_by_another_broker_are_known")
class KnowsOnlyTheQueuesItMade(SharedDriver):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.known: set[str] = set()

    async def push(self, batch: Any) -> Any:
        self.known.update(job.queue for job in batch.jobs)
        return await super().push(batch)

    async def queues(self) -> list[QueueState]:
        return [queue for queue in await super().queues() if queue.name in self.known]


@bug("test_a_pause_holds_at_every_broker")
class KeepsPausesToItself(SharedDriver):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.pauses: set[str] = set()

    async def reserve(self, request: Any) -> Any:
        others = [
            queue
            for queue in self.server.engine._state.queues.values()
            if queue.paused and queue.name not in self.pauses
        ]
        for queue in others:
            queue.paused = False
        leased = await super().reserve(request)
        for queue in others:
            queue.paused = True
        return leased

    async def set_paused(self, queue: str, paused: bool) -> bool:
        self.pauses = {queue}
        return await super().set_paused(queue, paused)


@bug("test_a_seal_holds_at_every_broker")
class KeepsSealsToItself(SharedDriver):
    sealed = ""

    async def seal(self, queue: str, to: str | None) -> None:
        self.sealed = to or ""

    async def reserve(self, request: Any) -> Any:
        return [] if self.sealed else await super().reserve(request)


@bug("test_p3_a_request_repeated_at_another_broker_gets_the_same_leases")
class KeepsRequestsToItself(SharedDriver):
    async def reserve(self, request: Any) -> Any:
        mine = f"{id(self)} {request.request_id}" if request.request_id else ""
        return await super().reserve(replace(request, request_id=mine))


@bug("test_notices_are_read_by_every_broker")
class KeepsNoticesToItself(SharedDriver):
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.mine: set[str] = set()

    async def notices(self, now: Micros) -> dict[str, bytes]:
        notices = await super().notices(now)
        return {broker: notice for broker, notice in notices.items() if broker in self.mine}

    async def post(self, broker_id: str, notice: bytes, until: Micros) -> None:
        self.mine = {broker_id}
        await super().post(broker_id, notice, until)


@bug("test_notices_are_read_by_every_broker")
class NoticesStayUp(SharedDriver):
    async def notices(self, now: Micros) -> dict[str, bytes]:
        return await super().notices(0)
