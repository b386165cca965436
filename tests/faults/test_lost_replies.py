"""P3, P5, P9: calls whose reply is lost, and which are repeated, have one effect and one answer.

`make faults` repeats a hundred thousand pushes over each store, with the figures on the
screen; a plain test run some hundreds.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from tests.faults.durable_stores import EVERY
from tests.faults.harness.answers import LEASES
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import total_of
from tests.faults.lossy_calls import LossyCalls
from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Proxy
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.admin_service_pb2 import Depth
from towline.v1.job_pb2 import Job
from towline.v1.job_pb2 import Lease as WireLease
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

#: Pushes over each store whose first call had stored its jobs when its reply was lost.
PUSHES = size("LOST_REPLIES", 250)
#: A plain test run leaves out what differs little from these.
OVER = list(EVERY) if "TOWLINE_LOST_REPLIES" in os.environ else ["file", "postgresql", "redis"]
QUEUE = "lossy"
#: Calls whose replies are lost at the same time: many small ones, or few large ones.
SMALL, LARGE = 250, 8
#: Jobs of one Push, of one Reserve and of one settle.
MOST_PUSHED, MOST_LEASED = 5, 200
#: Of an attempt, that it fails: the job then comes again.
FAILING = 0.2
LEASE_SECONDS = 3600
CREATED, EXISTING = pb.PUSH_OUTCOME_CREATED, pb.PUSH_OUTCOME_EXISTING
Item = TypeVar("Item", pb.Ack, pb.Nack)
OK, SETTLED = pb.LEASE_OUTCOME_OK, pb.LEASE_OUTCOME_ALREADY_SETTLED


@pytest.mark.parametrize("kind", OVER)
@pytest.mark.timeout(120 + PUSHES / 50)
def test_calls_whose_reply_was_lost_are_repeated_without_a_second_effect(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    chance = Random(seed())
    began = time.monotonic()
    with (
        EVERY[kind](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path) as broker,
        Proxy(broker.address, seed=seed()) as proxy,
        LossyCalls(proxy, chance) as calls,
    ):
        jobs, in_vain = pushed(calls, chance)
        assert total_of(broker.address).depth == Depth(ready=len(jobs))
        repeated = calls.lost
        nacked = worked_off(calls, jobs, chance)
        total = total_of(broker.address)
    figures.show(
        f"lost replies, {kind}",
        pushes_repeated=repeated,
        stored_before_their_reply_was_lost=in_vain,
        jobs=len(jobs),
        stored=total.totals.pushed,
        duplicates=total.totals.pushed - len(jobs),
        other_calls_repeated=calls.lost - repeated,
        jobs_that_failed_once=nacked,
        seconds=round(time.monotonic() - began),
    )
    assert total.depth == Depth()
    totals = total.totals
    assert totals.pushed == totals.completed == len(jobs)
    assert totals.retried == totals.failed == nacked
    assert totals.started - totals.released == len(jobs) + nacked
    assert (totals.lease_expired, totals.dead_lettered) == (0, 0)


def pushed(calls: LossyCalls, chance: Random) -> tuple[set[str], int]:
    """The ids of the jobs that are there once so many pushes were repeated in vain, and how many
    were."""
    stub = QueueServiceStub(calls.channel)
    jobs: set[str] = set()
    in_vain = 0
    while in_vain < PUSHES:
        requests = [push_of(some_jobs(chance)) for _ in range(SMALL)]
        for request, answer in zip(requests, calls.repeated(stub.Push, requests), strict=True):
            ids = [job.id for job in request.jobs]
            assert [result.job_id for result in answer.results] == ids
            # Whole or not at all: by the first call, or by the repeat.
            [outcome] = {result.outcome for result in answer.results}
            assert outcome in (CREATED, EXISTING)
            in_vain += outcome == EXISTING
            jobs.update(ids)
    return jobs, in_vain


def some_jobs(chance: Random) -> list[Job]:
    count = 1 if chance.random() < 0.8 else chance.randint(2, MOST_PUSHED)
    return [Job(id=uuid7(), queue=QUEUE, type="Load") for _ in range(count)]


def push_of(jobs: Sequence[Job]) -> pb.PushRequest:
    return pb.PushRequest(jobs=jobs)


def worked_off(calls: LossyCalls, jobs: set[str], chance: Random) -> int:
    """Every job is leased, and settled; returns how many failed at first."""
    stub = QueueServiceStub(calls.channel)
    acked: set[str] = set()
    failed: set[str] = set()
    while leases := leased(calls):
        for lease in leases:
            assert lease.job.id in jobs
            assert lease.job.id not in acked
            assert lease.attempt == (2 if lease.job.id in failed else 1)
        failing = {
            lease.job.id: chance.random() < FAILING and lease.attempt == 1 for lease in leases
        }
        nacks = [nack_of(lease) for lease in leases if failing[lease.job.id]]
        acks = [pb.Ack(lease_token=one.lease_token) for one in leases if not failing[one.job.id]]
        settle(calls, stub.Nack, [pb.NackRequest(nacks=part) for part in parts(nacks)])
        settle(calls, stub.Ack, [pb.AckRequest(acks=part) for part in parts(acks)])
        # What was settled in one way is not settled in the other, however often that is asked.
        wrong = [pb.Ack(lease_token=nack.lease_token) for nack in nacks]
        settle(calls, stub.Ack, [pb.AckRequest(acks=part) for part in parts(wrong)], SETTLED)
        acked |= {lease.job.id for lease in leases if not failing[lease.job.id]}
        failed |= {lease.job.id for lease in leases if failing[lease.job.id]}
    assert acked == jobs
    return len(failed)


def leased(calls: LossyCalls) -> list[WireLease]:
    """What several Reserves bring when they are repeated with their request ids."""
    requests = []
    for _ in range(LARGE):
        request = pb.ReserveRequest(max_jobs=MOST_LEASED, worker_id="w", request_id=uuid7())
        request.queues.add(name=QUEUE)
        request.lease.FromSeconds(LEASE_SECONDS)
        requests.append(request)
    stub = QueueServiceStub(calls.channel)
    answers = calls.repeated(stub.Reserve, requests)
    leases = [lease for answer in answers for lease in answer.leases]
    assert len({lease.job.id for lease in leases}) == len(leases)
    return leases


def settle(
    calls: LossyCalls,
    method: object,
    requests: Sequence[pb.AckRequest | pb.NackRequest],
    expected: pb.LeaseOutcome.ValueType = OK,
) -> None:
    if not requests:
        return
    for request, answer in zip(requests, calls.repeated(method, requests), strict=True):
        items = request.acks if isinstance(request, pb.AckRequest) else request.nacks
        for item, result in zip(items, answer.results, strict=True):
            told = f"P3, seed {seed()}: {item} was answered {LEASES[result.outcome]}"
            assert result.outcome == expected, f"{told}, not {LEASES[expected]}"


def nack_of(lease: WireLease) -> pb.Nack:
    nack = pb.Nack(lease_token=lease.lease_token)
    nack.failure.type = "Planned"
    nack.retry_after.FromSeconds(0)
    return nack


def parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), MOST_LEASED):
        yield items[start : start + MOST_LEASED]
