"""Answers that nobody reads take up a bounded part of the memory: by a client that speaks HTTP/2 by
hand and gives no room for them, against a broker in a process of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest

from tests.access.callers import bearer
from tests.access.senders import Tokens
from tests.support import http2
from tests.support.broker_process import BrokerProcess
from tests.support.http2_peer import Peer
from tests.support.servers.process import wait_until
from towline.ids import uuid7
from towline.v1.errors_pb2 import ErrorInfo, Status
from towline.v1.job_pb2 import Job, JobView
from towline.v1.queue_service_pb2 import (
    LEASE_OUTCOME_OK,
    Ack,
    AckRequest,
    GetJobRequest,
    ListJobsRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

GET_JOB, LIST_JOBS, RESERVE = (
    f"/towline.v1.QueueService/{method}" for method in ("GetJob", "ListJobs", "Reserve")
)
MIB = 1 << 20
#: What may be unread, and the calls that would bring so many answers of a MiB.
LIMIT, CALLS = 16 * MIB, 150
#: Twice the limit, for gRPC has a copy of its own, and what a broker comes to need anyway.
MOST_GROWTH = 2 * LIMIT + 40 * MIB
SECONDS = 20.0
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
GUARDS = {"TOWLINE_GUARDS__ANSWER_BYTES": str(LIMIT)}
LARGE = bytes(MIB - 1)


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """That asks nobody who calls."""
    with BrokerProcess("memory:", environment=GUARDS) as broker:
        yield broker


@contextmanager
def stub_of(broker: BrokerProcess) -> Iterator[Any]:
    options = [*OPTIONS, ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(broker.address, options) as channel:
        yield QueueServiceStub(channel)


def push(stub: Any, queue: str, count: int = 1, **how: Any) -> str:
    """Large jobs. Returns the id of one of them."""
    jobs = [Job(id=uuid7(), queue=queue, type="T", payload=LARGE) for _ in range(count)]
    stub.Push(PushRequest(jobs=jobs), timeout=SECONDS, **how)
    return jobs[0].id


@contextmanager
def unread(
    broker: BrokerProcess, method: str, request: bytes, calls: int, *headers: tuple[str, str]
) -> Iterator[Peer]:
    """So many calls whose answers have no room to be sent."""
    with Peer(broker.address, (http2.INITIAL_WINDOW, 0)) as peer:
        peer.hear(SECONDS)
        for stream in range(1, 2 * calls, 2):
            peer.call(stream, method, request, *headers)
        yield peer


def hear_of_refusals(peer: Peer, least: int) -> None:
    def heard() -> bool:
        peer.hear(0.05)
        return len(peer.over) >= least

    wait_until(heard, f"{least} of the calls are refused")
    # RESOURCE_EXHAUSTED; said in full but once, for headers are told again by their number.
    assert any(b"grpc-status\x018" in answer for answer in peer.over.values())


def refusal(call: Any, *arguments: Any, **how: Any) -> str:
    """The reason for which it is refused, as for want of room."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=SECONDS, **how)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error.details()
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    return next(
        ErrorInfo.FromString(each.value).reason
        for each in status.details
        if each.type_url.endswith("ErrorInfo")
    )


def growth(broker: BrokerProcess, since: int) -> int:
    return int(psutil.Process(broker.pid).memory_info().rss - since)


def test_what_nobody_reads_is_bounded_and_jobs_go_on(broker: BrokerProcess) -> None:
    with stub_of(broker) as stub:
        job_id = push(stub, "large")
        request = GetJobRequest(id=job_id)
        before = psutil.Process(broker.pid).memory_info().rss
        with unread(broker, GET_JOB, request.SerializeToString(), CALLS) as peer:
            hear_of_refusals(peer, CALLS - LIMIT // MIB)
            assert growth(broker, before) < MOST_GROWTH
            assert refusal(stub.GetJob, request) == "IDENTITY_BYTES"
            # What is not large goes on meanwhile.
            stub.Push(PushRequest(jobs=[Job(queue="small", type="T")]), timeout=SECONDS)
            reserve = ReserveRequest(queues=[QueueChoice(name="small")])
            lease = stub.Reserve(reserve, timeout=SECONDS).leases[0]
            acks = AckRequest(acks=[Ack(lease_token=lease.lease_token)])
            assert stub.Ack(acks, timeout=SECONDS).results[0].outcome == LEASE_OUTCOME_OK
            # And what is taken back counts no more.
            for stream in range(1, 2 * CALLS, 2):
                peer.reset(stream)
            wait_until(lambda: answers(stub, request), "there is room again")


def answers(stub: Any, request: GetJobRequest) -> bool:
    try:
        return len(stub.GetJob(request, timeout=SECONDS).job.job.payload) == len(LARGE)
    except grpc.RpcError:
        return False


def test_leases_that_would_be_too_much_go_back(broker: BrokerProcess) -> None:
    with stub_of(broker) as stub:
        request = GetJobRequest(id=push(stub, "held"))
        reserve = ReserveRequest(queues=[QueueChoice(name="held")])
        with unread(broker, GET_JOB, request.SerializeToString(), CALLS) as peer:
            hear_of_refusals(peer, CALLS - LIMIT // MIB)
            assert refusal(stub.Reserve, reserve) == "IDENTITY_BYTES"
        reserve.wait.FromSeconds(5)

        def leased() -> bool:
            try:
                leases = stub.Reserve(reserve, timeout=SECONDS).leases
            except grpc.RpcError:
                return False
            assert [lease.attempt for lease in leases] == [1]
            return True

        wait_until(leased, "the job is reserved")


def test_lists_stop_growing_at_the_limit(broker: BrokerProcess) -> None:
    """While they are made: ten at once would hold ten times as much before the first is done."""
    with stub_of(broker) as stub:
        push(stub, "listed", count=20)
        request = ListJobsRequest(queue="listed", view=JobView.JOB_VIEW_FULL)
        assert len(stub.ListJobs(request, timeout=SECONDS).jobs) == 20  # alone it may be larger
        before = psutil.Process(broker.pid).memory_info().rss
        with unread(broker, LIST_JOBS, request.SerializeToString(), 20) as peer:
            hear_of_refusals(peer, 19)
            assert growth(broker, before) < MOST_GROWTH + 2 * 20 * MIB


def test_small_answers_are_bounded_in_number(broker: BrokerProcess) -> None:
    """Each takes some room beside its few bytes."""
    reserve = ReserveRequest(queues=[QueueChoice(name="nothing")])
    before = psutil.Process(broker.pid).memory_info().rss
    with (
        unread(broker, RESERVE, reserve.SerializeToString(), 1_500) as peer,
        stub_of(broker) as stub,
    ):
        hear_of_refusals(peer, 400)
        assert growth(broker, before) < MOST_GROWTH
        assert refusal(stub.Reserve, reserve) == "IDENTITY_BYTES"


def test_others_go_on_where_callers_are_known(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    greedy, other = (bearer(tokens.make(name, push=["*"])) for name in ("greedy", "other"))
    settings = {**GUARDS, "TOWLINE_AUTH__TOKENS": str(tokens.path)}
    with BrokerProcess("memory:", environment=settings) as broker, stub_of(broker) as stub:
        request = GetJobRequest(id=push(stub, "large", metadata=other))
        with unread(broker, GET_JOB, request.SerializeToString(), CALLS, *greedy) as peer:
            hear_of_refusals(peer, CALLS - LIMIT // MIB)
            assert refusal(stub.GetJob, request, metadata=greedy) == "IDENTITY_BYTES"
            assert stub.GetJob(request, metadata=other, timeout=SECONDS).job.job.payload == LARGE
