"""A client that fails, or finds nothing to do, is not passed over."""

import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from tests.faults.harness.checker import Verdict, judge
from tests.faults.harness.diary import Diary
from tests.faults.harness.figures import Figures
from tests.faults.harness.habits import MIXED, PLAIN
from tests.faults.harness.history import Final, History, read_diary
from tests.faults.harness.link import Link
from tests.faults.harness.load import Load
from tests.faults.harness.operator import Operator
from tests.faults.harness.worker import Worker
from tests.support.broker_process import BrokerProcess
from towline.v1 import queue_service_pb2 as pb


class Failed(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.INTERNAL


def test_a_worker_process_that_fails_is_told_of(tmp_path: Path) -> None:
    with (
        BrokerProcess("memory:", folder=tmp_path) as broker,
        Load([broker.address], tmp_path, seed=1, workers=1, worker_processes=1) as load,
    ):
        load.wait_for_acknowledged(50)
        load.processes[0].send_signal(signal.SIGABRT)
        load.processes[0].wait(30)
        with pytest.raises(AssertionError, match="worker process 0 ended by itself"):
            load.finish()


def test_a_run_in_which_nothing_was_done_proves_nothing(figures: Figures) -> None:
    with pytest.raises(AssertionError, match="nothing: no job was acknowledged"):
        figures.prove("nothing", Verdict(History([], Final()), (), Counter()))


def test_an_operator_for_whom_lists_fail_does_not_go_on(tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Failed

    link = linked(queue=SimpleNamespace(ListJobs=fail), dead=SimpleNamespace(ListDead=fail))
    operator = Operator(link, Diary(tmp_path, "operator"), MIXED, seed=1)
    with pytest.raises(Failed):
        operator.run(lambda: True)


def test_another_job_another_term_and_a_token_that_is_made_up_are_found(tmp_path: Path) -> None:
    def reserve(*_: object, **__: object) -> pb.ReserveResponse:
        answer = pb.ReserveResponse()
        lease = answer.leases.add(lease_token="token", attempt=1)
        lease.job.id, lease.job.queue, lease.job.type = "a", PLAIN.queue, "Load"
        lease.job.payload = b"another one's"
        return answer

    def ack(request: pb.AckRequest, **_: object) -> pb.AckResponse:
        outcome = pb.LeaseOutcome.LEASE_OUTCOME_OK
        return pb.AckResponse(results=[pb.SettleResult(outcome=outcome) for _ in request.acks])

    clumsy = replace(PLAIN, clumsy=1.0)
    link = linked(queue=SimpleNamespace(Reserve=reserve, Ack=ack))
    once = iter([True, True])
    worker = Worker(link, Diary(tmp_path, "worker"), clumsy, "worker", seed=1)
    worker.run(lambda: next(once, False), lambda: False)
    history = History(list(read_diary(tmp_path / "worker.jsonl")), Final())
    found = {violation.rule for violation in judge(history).violations}
    assert {"changed", "another term than asked", "unknown token accepted"} <= found


def linked(**stubs: Any) -> Link:
    return cast(Link, SimpleNamespace(pause=lambda: None, **stubs))
