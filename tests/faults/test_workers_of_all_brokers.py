"""Stats: two brokers on one store, of which only one hears of a worker; the other lists it, counts
it and can stop it. So can a broker that has just come back after a kill -9, and knows nobody.

`make faults` does it over every shared store; a plain test run over one.
"""

import os
from pathlib import Path

import pytest

from tests.faults.durable_stores import SHARED
from tests.faults.harness.link import Link
from tests.support.servers.process import wait_until
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as pb

KINDS = list(SHARED) if "TOWLINE_SHARED_JOBS" in os.environ else ["redis"]
WORKER = "w1"
#: A broker reads the notices of the others every second, if the machine lets it.
SECONDS = 20.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_that_only_one_broker_hears_of_is_known_and_stopped_by_all(
    kind: str, tmp_path: Path
) -> None:
    with (
        SHARED[kind](tmp_path) as store,
        store.broker(tmp_path, "one") as one,
        store.broker(tmp_path, "two") as two,
        Link([one.address]) as home,
        Link([two.address]) as other,
    ):
        assert beaten(home) == pb.WORKER_DIRECTIVE_NONE
        wait_until(lambda: known(other) == [WORKER], "the other broker lists the worker", SECONDS)
        assert other.admin.Stats(admin.StatsRequest()).broker.workers == 1
        stop(other, pb.WORKER_DIRECTIVE_QUIET)
        told(home, pb.WORKER_DIRECTIVE_QUIET)
        one.kill()
        one.start()
        # It has heard of nobody yet, and asks who was told of by its life before.
        assert known(home) == [WORKER]
        stop(home, pb.WORKER_DIRECTIVE_STOP)
        told(other, pb.WORKER_DIRECTIVE_STOP)
        told(home, pb.WORKER_DIRECTIVE_STOP)


def beaten(link: Link) -> int:
    request = pb.HeartbeatRequest(worker_id=WORKER)
    return link.queue.Heartbeat(request, wait_for_ready=True).directive


def known(link: Link) -> list[str]:
    answer = link.admin.ListWorkers(admin.ListWorkersRequest(), wait_for_ready=True)
    return [worker.worker_id for worker in answer.workers]


def stop(link: Link, directive: pb.WorkerDirective.ValueType) -> None:
    link.admin.StopWorker(admin.StopWorkerRequest(worker_id=WORKER, directive=directive))


def told(link: Link, directive: pb.WorkerDirective.ValueType) -> None:
    wait_until(lambda: beaten(link) == directive, "the worker is told", SECONDS)
