"""P11: what the memory engine keeps is bounded by what it holds, not by what has happened."""

from random import Random

from towline_broker.domain.jobs import LeaseRef, NewJob, Settlement
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    CancelRequest,
    ExtendBatch,
    ExtendItem,
    NackBatch,
    NackItem,
    PushBatch,
    ReserveRequest,
)
from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.lines import SWEEP_SLACK, Agenda, NumberedLine
from towline_broker.testing import new_job, new_jobs

ALL = 1_000_000


def push(engine: Engine, *jobs: NewJob) -> None:
    engine.push(PushBatch(jobs, now=0))


def reserve(engine: Engine, count: int) -> list[LeaseRef]:
    leased = engine.reserve(ReserveRequest(["q"], count, HOUR, "g", now=0))
    return [one.ref for one in leased]


def test_p11_heartbeats_leave_nothing_behind() -> None:
    engine = Engine()
    push(engine, new_job())
    (ref,) = reserve(engine, 1)
    for now in range(5000):
        engine.extend(ExtendBatch([ExtendItem(ref)], now))
    assert len(engine._state.leases._times) <= 2 + SWEEP_SLACK
    assert len(engine._state.leases._jobs) == 1


def test_p11_jobs_that_come_and_go_leave_nothing_behind() -> None:
    engine = Engine()
    for now in range(100):
        jobs = [
            *new_jobs(4, expires_at=HOUR, unique_key=f"k{now}", unique_until=now + 1),
            *new_jobs(4, due_at=HOUR, priority=now),
            *new_jobs(4, retention=5),
        ]
        engine.push(PushBatch(jobs, now))
        request = ReserveRequest(["q"], 3, HOUR, f"g{now}", now, request_id=f"r{now}")
        refs = [leased.ref for leased in engine.reserve(request)]
        lost = [NackItem(ref, Settlement.RELEASED, due_at=HOUR) for ref in refs[:1]]
        engine.nack(NackBatch(lost, now, now + 10))
        engine.ack(AckBatch([AckItem(ref, b"x" * 100) for ref in refs[1:]], now, now + 10))
        engine.cancel(CancelRequest([job.id for job in jobs], now, now + 10))
    engine.forget(HOUR, ALL)
    state = engine._state
    assert not state.jobs
    assert state.size == 0
    (queue,) = state.queues.values()
    assert (len(queue.ready), len(queue.scheduled), queue.live) == (0, 0, 0)
    assert not queue.ready._priorities
    for agenda in (state.due, state.expiring, state.retained, state.keys._until):
        assert len(agenda._heap) <= SWEEP_SLACK
    assert len(state.leases._times) <= SWEEP_SLACK
    assert not state.leases._jobs
    assert not state.leases.requests
    assert not state.keys._held
    assert not state.in_push_order._blocks
    assert not any(state.jobs._parts)


def test_an_agenda_gives_what_is_due_in_order_of_time_then_of_setting() -> None:
    agenda: Agenda[str] = Agenda()
    for key, at in (("late", 9), ("b", 5), ("a", 5), ("moved", 1), ("gone", 2), ("moved", 5)):
        agenda.set(key, at)
    agenda.discard("gone")
    agenda.discard("never there")
    assert agenda.first_time() == 5
    assert agenda.due(4, ALL) == []
    assert agenda.due(5, 2) == ["b", "a"]
    assert agenda.due(9, ALL) == ["b", "a", "moved", "late"]


def test_a_numbered_line_is_read_on_from_any_number() -> None:
    line: NumberedLine[int, str] = NumberedLine()
    last = 3 * NumberedLine.BLOCK
    for number in [*range(2, last + 1), 1]:
        line.add(number, f"item {number}")
    for number in range(2, last):
        line.remove(number)
    assert line.first() == "item 1"
    assert list(line.after(0)) == [(1, "item 1"), (last, f"item {last}")]
    assert list(line.after(1)) == list(line.after(last - 1)) == [(last, f"item {last}")]
    assert list(line.after(last)) == []
    assert len(line) == 2


def test_a_numbered_line_keeps_its_order_whatever_comes_and_goes() -> None:
    random = Random(1)
    line: NumberedLine[int, int] = NumberedLine()
    there: set[int] = set()
    number = 0
    for _ in range(4_000):
        if there and random.random() < 0.48:
            gone = min(there) if random.random() < 0.5 else random.choice(sorted(there)[:50])
            there.remove(gone)
            line.remove(gone)
        elif there and random.random() < 0.05:
            front = line.front(random.randrange(1, 40))
            assert front == sorted(there)[: len(front)]
            there.difference_update(front)
            line.remove_front(len(front))
        elif there and random.random() < 0.02:
            some = random.sample(sorted(there), min(len(there), random.randrange(1, 300)))
            there.difference_update(some)
            line.remove_all(some)
        elif random.random() < 0.05:
            many = range(number + 2, number + 2 * random.randrange(2, 400), 2)
            number = many[-1]
            there.update(many)
            line.extend([(each, each) for each in many])
        else:
            number += 2
            new = number if random.random() < 0.95 else number - 401 - 2 * random.randrange(99)
            if new > 0 and new not in there:
                there.add(new)
                line.add(new, new)
        assert len(line) == len(there)
        if there:
            assert line.first() == min(there)
    assert list(line) == sorted(there)
    middle = sorted(there)[len(there) // 2]
    assert [key for key, _ in line.after(middle)] == sorted(each for each in there if each > middle)


def test_no_mapping_of_the_engine_is_copied_as_a_whole_when_it_grows() -> None:
    """Every part and every block stays small, whatever the number of jobs."""
    engine = Engine()
    push(engine, *new_jobs(20_000))
    state = engine._state
    assert max(map(len, state.jobs._parts)) < 250
    assert max(map(len, state.in_push_order._blocks)) <= NumberedLine.BLOCK
