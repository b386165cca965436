"""P8: a worker that waits gets a job at once, whatever made it ready, and at whichever broker.

`make faults` does it over every store; a plain test run over some.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.faults.durable_stores import EVERY, SHARED
from tests.faults.harness.figures import Figures
from tests.faults.harness.link import Link
from tests.support.standstill import Standstill
from towline.ids import uuid7
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job, Lease

#: A plain test run leaves out what differs little from these.
KINDS = list(EVERY) if "TOWLINE_NETWORK_ROUNDS" in os.environ else ["sqlite", "postgresql", "redis"]
QUEUE = "news"
#: All seconds. How late a job may be; how long a worker waits for it; of a job that is delayed.
PROMPT, WAIT, DELAY = 1.0, 8.0, 0.3
#: A claim that came back short is followed by one more look a second later: after that, and before
#: the next look of those that are there in case that news was lost, only news can wake a worker.
LOOKED = 1.3


class Worker:
    """Waits at one broker."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def waits(self) -> Callable[[], Sequence[Lease]]:
        """A Reserve that is parked; returns what it brings."""
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], worker_id=uuid7())
        request.wait.FromMilliseconds(round(WAIT * 1000))
        call = self._link.queue.Reserve.future(request)
        time.sleep(LOOKED)
        return lambda: call.result(WAIT + 5).leases

    def lease(self) -> Lease:
        """Of a job that is there."""
        [lease] = self._link.queue.Reserve(
            pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)])
        ).leases
        return lease


def push(link: Link, delay: float = 0.0) -> None:
    job = Job(id=uuid7(), queue=QUEUE, type="News")
    job.retry.max_attempts = 10
    if delay:
        job.delay.FromMilliseconds(round(delay * 1000))
    link.queue.Push(pb.PushRequest(jobs=[job]))


def ack(link: Link, lease: Lease) -> None:
    [result] = link.queue.Ack(pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token)])).results
    assert result.outcome == pb.LEASE_OUTCOME_OK


def nacked(link: Link, lease: Lease, nack: pb.Nack) -> None:
    nack.lease_token = lease.lease_token
    [result] = link.queue.Nack(pb.NackRequest(nacks=[nack])).results
    assert result.outcome == pb.LEASE_OUTCOME_OK


# Each makes ready, at one broker, a job of a queue that has none; how, and after how many seconds.


def pushed(link: Link) -> Callable[[], float]:
    def act() -> float:
        push(link)
        return 0.0

    return act


def delayed(link: Link) -> Callable[[], float]:
    def act() -> float:
        push(link, DELAY)
        return DELAY

    return act


def released(link: Link) -> Callable[[], float]:
    push(link)
    lease = Worker(link).lease()

    def act() -> float:
        nack = pb.Nack()
        nack.release.SetInParent()
        nacked(link, lease, nack)
        return 0.0

    return act


def retried(link: Link) -> Callable[[], float]:
    push(link)
    lease = Worker(link).lease()

    def act() -> float:
        nack = pb.Nack()
        nack.retry_after.FromMilliseconds(round(DELAY * 1000))
        nacked(link, lease, nack)
        return DELAY

    return act


def requeued(link: Link) -> Callable[[], float]:
    push(link)
    lease = Worker(link).lease()
    nacked(link, lease, pb.Nack(dead_letter=True))

    def act() -> float:
        selection = dead.DeadSelection(ids=[lease.job.id])
        assert link.dead.RequeueDead(dead.RequeueDeadRequest(selection=selection)).requeued == 1
        return 0.0

    return act


def resumed(link: Link) -> Callable[[], float]:
    push(link)
    link.admin.PauseQueue(admin.PauseQueueRequest(queue=QUEUE))

    def act() -> float:
        link.admin.ResumeQueue(admin.ResumeQueueRequest(queue=QUEUE))
        return 0.0

    return act


WAYS = (pushed, delayed, released, retried, requeued, resumed)


@contextmanager
def links(kind: str, folder: Path) -> Iterator[tuple[Link, Link]]:
    """To two brokers on one store that brokers share, else twice to the only one."""
    with EVERY[kind](folder) as store, ExitStack() as running:
        names = ("one", "other") if kind in SHARED else ("only",)
        brokers = [running.enter_context(store.broker(folder, name)) for name in names]
        yield (
            running.enter_context(Link([brokers[0].address])),
            running.enter_context(Link([brokers[-1].address])),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_p8_a_job_is_with_a_worker_that_waits_as_soon_as_it_is_ready(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    took: dict[str, float] = {}
    with links(kind, tmp_path) as (here, there), Standstill(tmp_path) as standstill:
        push(there)
        ack(there, Worker(there).lease())  # the queue is known to both
        for way in WAYS:
            act = way(there)
            waiting = Worker(here).waits()
            began = time.monotonic()
            delay = act()
            leases = waiting()
            took[way.__name__] = time.monotonic() - began - delay
            assert len(leases) == 1, f"P8: a job that was {way.__name__} did not come at all"
            ack(here, leases[0])
    figures.show(f"news, {kind}", **{f"{way}_ms": round(1000 * late) for way, late in took.items()})
    for name, late in took.items():
        prompt = PROMPT + standstill.longest
        assert late < prompt, f"P8: a job that was {name} came {late:.1f} s late"
        assert late > -0.05, f"P10: a job that was {name} came {-late:.2f} s too early"
