"""P2, P10: a broker that is away for longer than its leases last has not lost them when it is back:
nobody could prolong them meanwhile."""

import time
from pathlib import Path

import pytest

from tests.faults.durable_stores import EMBEDDED
from tests.faults.harness.link import Link
from tests.support.broker_process import BrokerProcess
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job

QUEUE = "outages"
#: Both in seconds; upkeep takes leases back within half a second.
LEASE, BACK = 3, 1.0
JOBS = 20


@pytest.mark.parametrize("kind", EMBEDDED)
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_p10_leases_outlast_a_broker_that_is_away_for_longer_than_they_last(
    kind: str, killed: bool, tmp_path: Path
) -> None:
    with EMBEDDED[kind](tmp_path) as store, BrokerProcess(store.url, folder=tmp_path) as broker:
        with Link([broker.address]) as link:
            jobs = [Job(id=uuid7(), queue=QUEUE, type="Long") for _ in range(JOBS)]
            link.queue.Push(pb.PushRequest(jobs=jobs))
            request = pb.ReserveRequest(queues=[pb.QueueChoice(name=QUEUE)], max_jobs=JOBS)
            request.lease.FromSeconds(LEASE)
            leases = link.queue.Reserve(request).leases
            assert len(leases) == JOBS
        if killed:
            broker.kill()
        else:
            broker.stop()
        time.sleep(LEASE + 0.5)
        broker.start()
        with Link([broker.address]) as link:
            time.sleep(BACK)
            assert not link.queue.Reserve(request).leases, "P2: a lease was given away"
            beats = pb.HeartbeatRequest()
            for lease in leases:
                beats.leases.add(lease_token=lease.lease_token)
            answers = {result.outcome for result in link.queue.Heartbeat(beats).results}
            assert answers == {pb.LEASE_OUTCOME_OK}, "P10: leases ran out while nobody was there"
            acks = pb.AckRequest(acks=[pb.Ack(lease_token=one.lease_token) for one in leases])
            assert {r.outcome for r in link.queue.Ack(acks).results} == {pb.LEASE_OUTCOME_OK}
