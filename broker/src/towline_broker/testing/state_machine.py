"""Random operations on a driver, clock in hand; every answer is compared with the model's."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from towline_broker.domain.errors import QueueFull, QueueMoved
from towline_broker.domain.jobs import DeadReason, JobState, LeaseRef, NewJob, Settlement
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    CancelRequest,
    DeadFilter,
    DeadSelection,
    ExtendBatch,
    ExtendItem,
    Feature,
    Handled,
    NackBatch,
    NackItem,
    PurgeRequest,
    PushBatch,
    Standing,
    Transfer,
)
from towline_broker.testing import model_moving
from towline_broker.testing import random_input as draw
from towline_broker.testing.comparisons import Comparison
from towline_broker.testing.factories import numbered_id
from towline_broker.testing.harness import NewHarness
from towline_broker.testing.model_job import ModelJob
from towline_broker.testing.store import ALL

#: How many examples a run plays unless told otherwise, and how many operations each has.
EXAMPLES = 150
STEPS = 50
#: Sets the number of examples, for long runs.
EXAMPLES_VARIABLE = "TOWLINE_CONTRACT_EXAMPLES"
#: Names a file to which each run adds a line of JSON: the test, and what it has played.
REPORT_VARIABLE = "TOWLINE_CONTRACT_REPORT"


@dataclass
class Played:
    examples: int = 0
    operations: int = 0

    def report(self) -> None:
        place = os.environ.get(REPORT_VARIABLE)
        if place:
            test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
            with Path(place).open("a") as file:
                file.write(json.dumps({"test": test, **asdict(self)}) + "\n")


def check_at_random(new_harness: NewHarness, examples: int = EXAMPLES, **options: Any) -> Played:
    """Plays random operations against the model, and fails with the shortest sequence found on
    which the driver differs from it. Keeps to what the driver's capabilities offer, but the store
    has to be able to list and look up its jobs.

    ``options`` go to Hypothesis' settings. The environment variable TOWLINE_CONTRACT_EXAMPLES
    stands above ``examples``; TOWLINE_CONTRACT_REPORT names a file that gets a line of JSON with
    the numbers of examples and operations played, which are also returned. A time limit of the test
    that strikes meanwhile looks to Hypothesis like a failure that does not come again (it calls the
    test flaky, or its data inconsistent): over a store that is slow allow for minutes.
    """
    examples = int(os.environ.get(EXAMPLES_VARIABLE, examples))
    chosen: dict[str, Any] = {
        "max_examples": examples,
        "stateful_step_count": STEPS,
        "deadline": None,
        "suppress_health_check": list(HealthCheck),
        **options,
    }

    played = Played()

    class Machine(DriverMachine):
        def __init__(self) -> None:
            super().__init__(new_harness)
            played.examples += 1

        def teardown(self) -> None:
            played.operations += self.operations
            super().teardown()

    run_state_machine_as_test(Machine, settings=settings(**chosen))
    played.report()
    return played


class DriverMachine(Comparison):
    """The operations.

    Hypothesis leaves many rules out of each example, and draws the others with equal chances. Where
    one operation means little without another before it, one rule does both.
    """

    @initialize(jobs=draw.JOBS)
    def open(self, jobs: list[draw.RandomJob]) -> None:
        seen = self.do(self.store.open())
        if self.shared:
            self.peer = self.store.peer()
            self.do(self.peer.open())
        else:
            assert seen == 0
        self._push(jobs, True, {})

    @rule(by=draw.STEP_OF_TIME, upkeep=st.booleans(), dead=st.booleans())
    def time_passes(self, by: Micros, upkeep: bool, dead: bool) -> None:
        self._pass_time(by)
        if upkeep:
            self._promote(ALL)
            self._take_back(ALL, dead)
            self._expire(ALL)

    def _pass_time(self, by: Micros) -> None:
        self.store.now = self.model.now = self.model.now + by

    @rule(jobs=draw.JOBS, all_or_nothing=st.booleans(), max_depth=draw.MAX_DEPTH)
    def push(
        self, jobs: list[draw.RandomJob], all_or_nothing: bool, max_depth: dict[str, int]
    ) -> None:
        self._push(jobs, all_or_nothing, max_depth)

    def _push(
        self, jobs: list[draw.RandomJob], all_or_nothing: bool, max_depth: dict[str, int]
    ) -> None:
        batch = PushBatch([self._job(job) for job in jobs], self.now, all_or_nothing, max_depth)
        expected = self.model.push(batch)
        try:
            results = self.do(self.driver.push(batch))
        except (QueueFull, QueueMoved):
            assert expected is None
        else:
            assert results == expected

    def _job(self, job: draw.RandomJob) -> NewJob:
        if job.again is not None and self.ids:
            (job_id,) = self.named_ids([job.again])
        else:
            # The same when an example is played again: stores may go by the order of ids.
            job_id = job.digit + numbered_id(len(self.ids))[1:]
            self.ids.append(job_id)
        return draw.offered(job.at(self.now, job_id), self.missing)

    @rule(reserve=draw.RESERVE)
    def reserve(self, reserve: draw.RandomReserve) -> None:
        self._reserve(reserve)

    @rule(reserve=draw.RESERVE, nacks=draw.NACKS)
    def reserve_and_nack(self, reserve: draw.RandomReserve, nacks: list[draw.RandomNack]) -> None:
        refs = self._reserve(reserve)
        self._nack([nack.at(self.now, ref) for nack, ref in zip(nacks, refs, strict=False)])

    @rule(reserve=draw.RESERVE, extensions=draw.EXTENSIONS, late=draw.LATE)
    def reserve_and_extend(
        self, reserve: draw.RandomReserve, extensions: list[draw.RandomExtension], late: bool
    ) -> None:
        refs = self._reserve(reserve)
        if late:
            self._pass_time(draw.LONGEST_LEASE)
            self._take_back(ALL, False)
        self._extend([one.at(ref) for one, ref in zip(extensions, refs, strict=False)])

    def _reserve(self, reserve: draw.RandomReserve) -> list[LeaseRef]:
        request = reserve.at(self.now, self.store.new_grant())
        leased = self.do(self.driver.reserve(request))
        expected = self.model.reserve(request, [one.ref.job_id for one in leased])
        if expected and expected[0].ref.grant != request.grant:
            # A repeated request is answered in any order.
            leased.sort(key=lambda one: one.ref.job_id)
            expected.sort(key=lambda one: one.ref.job_id)
        assert leased == expected
        refs = [one.ref for one in leased]
        self.refs += [ref for ref in refs if ref not in self.refs]
        return refs

    @precondition(lambda self: self.refs)
    @rule(picks=draw.PICKS, result=st.sampled_from([b"", b"\x00\xff"]))
    def ack(self, picks: list[int], result: bytes) -> None:
        items = [AckItem(ref, result) for ref in self.named_refs(picks)]
        batch = AckBatch(items, self.now, self.now + draw.WINDOW)
        assert self.do(self.driver.ack(batch)) == [self.model.ack(item) for item in items]

    @precondition(lambda self: self.refs)
    @rule(nacks=draw.NACKS)
    def nack(self, nacks: list[draw.RandomNack]) -> None:
        self._nack([nack.at(self.now, *self.named_refs([nack.pick])) for nack in nacks])

    def _nack(self, items: Sequence[NackItem]) -> None:
        batch = NackBatch(items, self.now, self.now + draw.WINDOW)
        assert self.do(self.driver.nack(batch)) == [self.model.nack(item) for item in items]

    @precondition(lambda self: self.refs)
    @rule(extensions=draw.EXTENSIONS)
    def extend(self, extensions: list[draw.RandomExtension]) -> None:
        self._extend([one.at(*self.named_refs([one.pick])) for one in extensions])

    def _extend(self, items: Sequence[ExtendItem]) -> None:
        expected = [self.model.extend(item) for item in items]
        assert self.do(self.driver.extend(ExtendBatch(items, self.now))) == expected

    @precondition(lambda self: self.has(JobState.LEASED))
    @rule(limit=draw.LIMIT, dead=st.booleans())
    def take_back(self, limit: int, dead: bool) -> None:
        self._take_back(limit, dead)

    def _take_back(self, limit: int, dead: bool) -> None:
        records = self.do(self.driver.expired_leases(self.now, limit))
        past = self.model.expired_leases()
        assert [record.lease_until for record in records] == [
            job.lease_until for job in past[:limit]
        ]
        expected = {job.id: job.lease_record() for job in past}
        assert all(expected[record.ref.job_id] == record for record in records)
        assert len({record.ref for record in records}) == len(records)
        reason = DeadReason.LEASE_EXPIRED if dead else None
        self._nack([NackItem(one.ref, Settlement.LOST, dead_reason=reason) for one in records])

    @precondition(lambda self: self.has(JobState.SCHEDULED))
    @rule(limit=draw.LIMIT)
    def promote(self, limit: int) -> None:
        self._promote(limit)

    def _promote(self, limit: int) -> None:
        assert self.do(self.driver.promote(self.now, limit)) == self.model.promote(limit)

    @precondition(lambda self: self.has(JobState.SCHEDULED, JobState.READY))
    @rule(limit=draw.LIMIT)
    def expire(self, limit: int) -> None:
        self._expire(limit)

    def _expire(self, limit: int) -> None:
        old = self.model.expirable()
        count = self.do(self.driver.expire(self.now, limit))
        dead = self._chosen(old, count, limit, lambda record: record.state is JobState.DEAD)
        _assert_earliest([job.expires_at for job in dead], [job.expires_at for job in old])
        self.model.expire(job.id for job in dead)

    @precondition(lambda self: self.model.ended_jobs or self.model.ended_leases or self.model.keys)
    @rule()
    def forget(self) -> None:
        self.do(self.store.forget_all())
        self.model.forget()

    @precondition(lambda self: self.ids and self.offers(Feature.CANCEL))
    @rule(picks=draw.PICKS)
    def cancel(self, picks: list[int]) -> None:
        ids = self.named_ids(picks)
        request = CancelRequest(ids, self.now, self.now + draw.WINDOW)
        expected = [self.model.cancel(job_id) for job_id in ids]
        assert self.do(self.driver.cancel(request)) == expected

    @precondition(lambda self: self.model.paused)
    @rule(pick=st.integers(0, 9), paused=st.booleans())
    def pause(self, pick: int, paused: bool) -> None:
        queue = self._queue(pick)
        changed = self.do(self.driver.set_paused(queue, paused))
        assert changed == self.model.set_paused(queue, paused)

    @precondition(lambda self: self.model.paused and self.offers(Feature.PURGE))
    @rule(pick=st.integers(0, 9), limit=draw.LIMIT)
    def purge(self, pick: int, limit: int) -> None:
        queue = self._queue(pick)
        waiting = self.model.those(JobState.SCHEDULED, JobState.READY, queue=queue)
        request = PurgeRequest(queue, limit, self.now, self.now + draw.WINDOW)
        handled = self.do(self.driver.purge(request))
        assert handled.matched == len(waiting)
        gone = self._chosen(
            waiting, handled.handled, limit, lambda one: one.state is JobState.CANCELLED
        )
        self.model.purge(job.id for job in gone)

    @precondition(lambda self: self.has(JobState.DEAD) and self.offers(Feature.DEAD_LETTERS))
    @rule(wanted=draw.DEAD, limit=draw.LIMIT, discard=st.booleans())
    def requeue_or_discard(self, wanted: draw.RandomDead, limit: int, discard: bool) -> None:
        self._requeue_or_discard(wanted, limit, discard)

    @precondition(lambda self: self.offers(Feature.DEAD_LETTERS))
    @rule(reserve=draw.RESERVE, wanted=draw.DEAD, limit=draw.LIMIT, discard=st.booleans())
    def bury_then_requeue_or_discard(
        self, reserve: draw.RandomReserve, wanted: draw.RandomDead, limit: int, discard: bool
    ) -> None:
        dead = DeadReason.REJECTED
        refs = self._reserve(reserve)
        self._nack([NackItem(ref, Settlement.DEAD_LETTERED, dead_reason=dead) for ref in refs])
        self._requeue_or_discard(wanted, limit, discard)

    def _requeue_or_discard(self, wanted: draw.RandomDead, limit: int, discard: bool) -> None:
        ids = self.named_ids(wanted.picks) if wanted.picks else None
        chosen = DeadFilter() if ids else wanted.filter_at(self.now)
        selection = DeadSelection(limit, self.now, ids, chosen)
        dead = self.model.dead(ids, chosen)
        assert self.do(self.driver.count_dead(selection)) == len(dead)
        handled: Handled
        if discard:
            until = self.now + draw.WINDOW
            handled = self.do(self.driver.discard_dead(selection, until))
            stored = {record.id for record in self.do(self.store.listed())}
            gone = [job for job in dead if job.id not in stored]
        else:
            handled = self.do(self.driver.requeue_dead(selection))
            gone = [job for job in dead if self._state(job) is JobState.READY]
        assert handled == Handled(len(dead), len(gone))
        assert len(gone) == min(limit, len(dead))
        _assert_earliest([job.finished_at for job in gone], [job.finished_at for job in dead])
        (self.model.discard if discard else self.model.requeue)(job.id for job in gone)

    @precondition(lambda self: self.model.paused and self.offers(Feature.TRANSFER))
    @rule(pick=st.integers(0, 9), move=draw.MOVE)
    def move(self, pick: int, move: draw.RandomMove) -> None:
        queue = self._queue(pick)
        self._seal(queue, move.to)
        leaving = self._outgoing(queue, move.limit)
        self.away += leaving
        if move.drop:
            seen = [Standing.of(one.record) for one in leaving]
            known = {one.job_id for one in seen}
            others = [job_id for job_id in self.ids[-2:] if job_id not in known]
            # Some of the others stand like that, and some do not.
            seen += [Standing(job_id, JobState.READY, 0) for job_id in dict.fromkeys(others)]
            changed = model_moving.drop(self.model, queue, seen)
            assert self.do(self.driver.drop(queue, seen)) == changed
        if move.forward:
            complete = model_moving.forward(self.model, queue)
            assert self.do(self.driver.forward(queue)) == complete
        if move.comes_back:
            self._seal(queue, None)

    def _seal(self, queue: str, to: str | None) -> None:
        self.do(self.driver.seal(queue, to))
        model_moving.seal(self.model, queue, to)

    def _outgoing(self, queue: str, limit: int) -> list[Transfer]:
        leaving = self.do(self.driver.outgoing(queue, limit))
        able = {job.id: job for job in model_moving.outgoing(self.model, queue)}
        chosen = [able[one.new.id] for one in leaving]
        assert len({job.id for job in chosen}) == len(chosen)
        assert [model_moving.without_old_key(self.model, one) for one in leaving] == [
            model_moving.transfer(self.model, job) for job in chosen
        ]
        places = [model_moving.place_of(job) for job in able.values()]
        assert [model_moving.place_of(job) for job in chosen] == places[:limit]
        return leaving

    @precondition(lambda self: self.away)
    @rule(picks=draw.PICKS)
    def receive(self, picks: list[int]) -> None:
        coming = [self.away[-1 - pick % len(self.away)] for pick in picks]
        expected = model_moving.receive(self.model, coming)
        self.do(self.store.about_to_receive())
        assert self.do(self.driver.receive(coming, self.now)) == expected

    def _queue(self, pick: int) -> str:
        return sorted(self.model.paused)[pick % len(self.model.paused)]

    @precondition(lambda self: sum(one.pushed for one in self.model.totals.values()) > 5)
    @rule()
    def reset_totals(self) -> None:
        self.do(self.driver.reset_totals())
        self.model.totals.clear()

    @precondition(lambda self: self._harness.persists)
    @rule()
    def reopen(self) -> None:
        seen = self.do(self.store.reopen())
        self.driver = self.store.driver
        self.store.heard.take()
        if not self.shared:
            assert seen <= self.now
            self.model.renew_leases()

    @precondition(lambda self: self.shared)
    @rule()
    def go_on_at_another_broker(self) -> None:
        """All that the one did is as if the other had done it."""
        assert self.peer is not None
        self.store, self.peer = self.peer, self.store
        self.driver = self.store.driver
        self.store.heard.take()

    def _state(self, job: ModelJob) -> JobState | None:
        return self.do(self.store.state(job.id))

    def _chosen(self, able: list[ModelJob], count: int, limit: int, hit: Any) -> list[ModelJob]:
        """Those of the jobs that a limited operation has changed."""
        assert count == min(limit, len(able))
        records = [(job, self.do(self.driver.get(job.id))) for job in able]
        changed = [job for job, record in records if record is not None and hit(record)]
        assert len(changed) == count
        return changed


def _assert_earliest(chosen: list[Micros | None], able: list[Micros | None]) -> None:
    earliest = sorted(time or 0 for time in able)[: len(chosen)]
    assert sorted(time or 0 for time in chosen) == earliest, "not the earliest were chosen"
