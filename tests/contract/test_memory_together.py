"""The memory engine does many jobs of one call together; it comes to the same as one by one."""

from random import Random
from typing import Any

import pytest

from towline_broker.domain.jobs import LeaseRef, NewJob, Settlement
from towline_broker.domain.retry import RetryPolicy
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    ExtendBatch,
    ExtendItem,
    JobQuery,
    NackBatch,
    NackItem,
    PushBatch,
    PushOutcome,
    ReserveRequest,
)
from towline_broker.drivers.memory import Engine
from towline_broker.testing import new_job

ALL = 1_000_000
WINDOW = 50
ROUNDS = 150


class Twins:
    """One engine gets the calls as they are, the other one an item at a time."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.together, self.alone = Engine(), Engine()
        self.now = 1
        self.ids: list[str] = []
        self.refs: list[LeaseRef] = []

    def step(self) -> None:
        self.now += self.random.randrange(3)
        step = self.random.choice(
            [
                self.push,
                self.push,
                self.reserve,
                self.ack,
                self.ack,
                self.nack,
                self.extend,
                self.upkeep,
            ]
        )
        step()
        assert self.portrait(self.together) == self.portrait(self.alone)

    def push(self) -> None:
        plain = self.random.random() < 0.5
        jobs = [self._new(plain) for _ in range(self.random.randrange(8))]
        self.ids += [job.id for job in jobs]
        limits = {"a": 20}
        got = self.together.push(PushBatch(jobs, self.now, False, limits))
        one_by_one = [self.alone.push(PushBatch([job], self.now, False, limits))[0] for job in jobs]
        assert got == one_by_one

    def _new(self, plain: bool) -> NewJob:
        random, often = self.random, plain or self.random.random() < 0.6
        again = self.ids and random.random() < 0.04
        job_id = random.choice(self.ids[-40:]) if again else new_job().id
        return NewJob(
            job_id,
            random.choice("ab"),
            random.choice("TUV"),
            b"x" * random.randrange(9),
            priority=random.choice([0, 0, 3]),
            due_at=None if often or random.random() < 0.8 else self.now + 5,
            expires_at=None if often or random.random() < 0.5 else self.now + 4,
            retention=0 if often else random.choice([0, 5]),
            unique_key=None if often or random.random() < 0.8 else random.choice("kl"),
            retry=RetryPolicy(max_attempts=random.choice([2, 3])),
        )

    def reserve(self) -> None:
        most, grant = self.random.randrange(9), f"grant {self.now} {self.random.random()}"
        request_id = self.random.choice(["", grant])
        whole = self.together.reserve(
            ReserveRequest(["b", "a"], most, 7, grant, self.now, "w", request_id)
        )
        # Without a request id, which would make all but the first a repetition of it.
        one = ReserveRequest(["b", "a"], 1, 7, grant, self.now, "w")
        alone = [leased for _ in range(most) for leased in self.alone.reserve(one)]
        assert whole == alone
        if request_id:
            again = ReserveRequest(["b", "a"], most, 7, "another", self.now, "w", request_id)
            if whole:
                assert self.together.reserve(again) == whole
        self.refs += [leased.ref for leased in whole]

    def _some(self) -> list[LeaseRef]:
        """In any order, some ended by now, some twice."""
        count = min(len(self.refs), self.random.randrange(14))
        return self.random.choices(self.refs[-30:], k=count) if count else []

    def ack(self) -> None:
        refs = self._some()
        if refs and self.random.random() < 0.5:  # of grants behind each other, as calls name them
            named = self.random.choices(refs, k=self.random.choice([1, 1, 2, 3]))
            refs = [ref for one in named for ref in self._like(one)]
        results = [b""] if self.random.random() < 0.5 else [b"", b"", b"done"]
        items = [AckItem(ref, self.random.choice(results)) for ref in refs]
        until = self.now + WINDOW
        whole = self.together.ack(AckBatch(items, self.now, until))
        assert whole == [self.alone.ack(AckBatch([one], self.now, until))[0] for one in items]

    def _like(self, one: LeaseRef) -> list[LeaseRef]:
        """The jobs of its grant and its type."""
        refs = [ref for ref in self.refs if ref.grant == one.grant]
        types = {ref: getattr(self.together.get(ref.job_id), "type", "") for ref in refs}
        return [ref for ref in refs if types[ref] == types[one]]

    def nack(self) -> None:
        items = [
            NackItem(ref, self.random.choice([Settlement.RETRIED, Settlement.RELEASED]))
            for ref in self._some()
        ]
        until = self.now + WINDOW
        whole = self.together.nack(NackBatch(items, self.now, until))
        assert whole == [self.alone.nack(NackBatch([one], self.now, until))[0] for one in items]

    def extend(self) -> None:
        items = [ExtendItem(ref, self.random.choice([None, 4])) for ref in self._some()]
        whole = self.together.extend(ExtendBatch(items, self.now))
        assert whole == [self.alone.extend(ExtendBatch([one], self.now))[0] for one in items]

    def upkeep(self) -> None:
        limit = self.random.choice([1, 3, ALL])
        for engine in (self.together, self.alone):
            engine.promote(self.now, limit)
            engine.expire(self.now, limit)
            while engine.forget(self.now, limit):
                pass
        overdue = self.together.expired_leases(self.now, ALL)
        key = lambda one: (one.lease_until, one.ref)  # noqa: E731 # for two lines only
        assert sorted(overdue, key=key) == sorted(self.alone.expired_leases(self.now, ALL), key=key)

    def portrait(self, engine: Engine) -> list[Any]:
        """All that can be seen of it."""
        events = engine.take_events()
        return [
            engine.list_jobs(JobQuery(ALL)).records,
            engine.counts(),
            engine.next_due(),
            engine.oldest_ready(),
            [
                (name, [job.id for job in queue.ready])
                for name, queue in engine.state.queues.items()
            ],
            [(queue.live, len(queue.scheduled)) for queue in engine.state.queues.values()],
            [engine.get(job_id) for job_id in self.ids],
            [engine.state.memory.settlement(ref) for ref in self.refs],
            (engine.state.size, len(engine.state.memory)),
            (events.ready, sorted(events.ended)),
        ]


@pytest.mark.parametrize("seed", range(6))
def test_calls_of_many_items_come_to_the_same_as_one_by_one(seed: int) -> None:
    twins = Twins(seed)
    for _ in range(ROUNDS):
        twins.step()


def test_p3_a_repeated_push_of_several_runs_none_again_that_has_succeeded() -> None:
    engine = Engine()
    jobs = [new_job("q"), new_job("q")]
    engine.push(PushBatch(jobs, 1))
    refs = [leased.ref for leased in engine.reserve(ReserveRequest(["q"], 2, 7, "grant", 1))]
    engine.ack(AckBatch([AckItem(ref) for ref in refs], 2, ALL))
    again = engine.push(PushBatch([*jobs, new_job("q")], 3))
    assert [each.outcome for each in again] == [PushOutcome.EXISTING] * 2 + [PushOutcome.CREATED]
    assert len(engine.reserve(ReserveRequest(["q"], 9, 7, "another", 4))) == 1


def test_acks_under_an_earlier_grant_end_nothing() -> None:
    """Also if all of their jobs are leased together again."""
    engine = Engine()
    engine.push(PushBatch([new_job("q"), new_job("q")], 1))
    first = [leased.ref for leased in engine.reserve(ReserveRequest(["q"], 2, 7, "first", 1))]
    engine.nack(NackBatch([NackItem(ref, Settlement.RELEASED) for ref in first], 2, ALL))
    second = [leased.ref for leased in engine.reserve(ReserveRequest(["q"], 2, 7, "second", 3))]
    late = engine.ack(AckBatch([AckItem(ref) for ref in first], 4, ALL))
    assert [(each.applied, each.before) for each in late] == [(False, Settlement.RELEASED)] * 2
    both = engine.ack(AckBatch([AckItem(ref) for ref in [*first, *second]], 5, ALL))
    assert [each.applied for each in both] == [False, False, True, True]
