"""A QueueService in memory that does as its script says, for what a real broker does only rarely.

A real gRPC server on a free port of the loopback. It grants the leases that a test adds, records
every call, and can fail before or after it took effect, keep an answer back, lose leases, give
directives, and go away and come back on the same port. It makes no decisions of its own: what is
given back or retried is not granted again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from concurrent import futures
from datetime import timedelta
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from towline.v1 import job_pb2, queue_service_pb2_grpc
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    AckResponse,
    CancelJobRequest,
    CancelJobResponse,
    GetJobRequest,
    GetJobResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    HeartbeatResult,
    LeaseOutcome,
    ListJobsRequest,
    ListJobsResponse,
    Nack,
    NackRequest,
    NackResponse,
    PushRequest,
    PushResponse,
    ReserveRequest,
    ReserveResponse,
    SettleResult,
    WorkerDirective,
)

PATIENCE = 20.0
"""Seconds after which a test gives up waiting for something."""

# Inside the class these two names are methods.
Settlement: TypeAlias = Ack | Nack

OK = LeaseOutcome.LEASE_OUTCOME_OK


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromTimedelta(timedelta(seconds=seconds))
    return message


class FakeBroker(queue_service_pb2_grpc.QueueServiceServicer):
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.reserves: list[ReserveRequest] = []
        self.heartbeats: list[HeartbeatRequest] = []
        self.settle_calls: list[list[Settlement]] = []
        self.directive = WorkerDirective.WORKER_DIRECTIVE_NONE
        self.lease_outcomes: dict[str, LeaseOutcome.ValueType] = {}
        self.refused: dict[str, str] = {}
        self.reason = ""
        self.parked = 0
        self.queue_leases: dict[str, float] = {}
        self._ready: deque[job_pb2.Lease] = deque()
        self._tokens: dict[str, str] = {}
        self._granted: dict[str, list[job_pb2.Lease]] = {}
        self._live: dict[str, float] = {}
        self._settlements: dict[str, Settlement] = {}
        self._failures: dict[str, deque[tuple[grpc.StatusCode, bool]]] = {}
        self._kept_back: set[str] = set()
        self._port = 0
        self._server: grpc.Server | None = None

    # What a test does

    def start(self) -> None:
        """Serve: on a free port at first, on the same one from then on."""
        # One server per port: two would share it without a word.
        server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
        queue_service_pb2_grpc.add_QueueServiceServicer_to_server(self, server)
        self._port = server.add_insecure_port(f"127.0.0.1:{self._port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """Go away in the middle of whatever is under way."""
        assert self._server is not None
        self._server.stop(grace=None).wait()
        self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def add(
        self,
        type: str,
        payload: bytes = b"{}",
        *,
        attempt: int = 1,
        lease: float | None = None,
        last_failure: job_pb2.Failure | None = None,
        last_progress: job_pb2.Progress | None = None,
        queue: str = "default",
        **fields: Any,
    ) -> str:
        """Make a job ready and return its id. ``fields`` are further ones of the job.

        ``lease`` is what is left of its lease when it is granted, in seconds (None: all of it).
        """
        job_id = str(uuid.uuid4())
        job = job_pb2.Job(id=job_id, queue=queue, type=type, payload=payload, **fields)
        enqueued_at = Timestamp()
        enqueued_at.FromSeconds(1_700_000_000)
        granted = job_pb2.Lease(
            lease_token=f"secret-token-{job_id}",
            job=job,
            attempt=attempt,
            enqueued_at=enqueued_at,
            last_failure=last_failure,
            last_progress=last_progress,
        )
        if lease is not None:
            granted.lease_remaining.CopyFrom(duration(lease))
        with self.changed:
            self._tokens[job_id] = granted.lease_token
            self._ready.append(granted)
            self.changed.notify_all()
        return job_id

    def fail(
        self, method: str, code: grpc.StatusCode, times: int = 1, *, after: bool = False
    ) -> None:
        """Let the next calls of a method fail, or only their answers get lost (``after``)."""
        with self.changed:
            self._failures.setdefault(method, deque()).extend([(code, after)] * times)

    def keep_back(self, method: str) -> None:
        """Let the next call of a method take effect and its answer stay on the way, for now."""
        with self.changed:
            self._kept_back.add(method)

    def let_go(self) -> None:
        """Send the answers that were kept back."""
        with self.changed:
            self._kept_back.clear()
            self.changed.notify_all()

    def set_outcome(self, job_id: str, outcome: LeaseOutcome.ValueType) -> None:
        """What Ack, Nack and Heartbeat of this job's lease are answered from now on."""
        with self.changed:
            self.lease_outcomes[self._tokens[job_id]] = outcome

    def refuse(self, job_id: str, method: str, reason: str = "INVALID_FIELD") -> None:
        """Answer REJECTED to the next Ack, Nack or Heartbeat of this job."""
        with self.changed:
            self.reason = reason
            self.refused[self._tokens[job_id]] = method

    def wait_for(self, condition: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Wait until the calls that came make ``condition`` true."""
        with self.changed:
            assert self.changed.wait_for(condition, timeout), "it did not happen in time"

    def wait_for_last_reserve(self) -> None:
        """Wait until a worker has given up its parked Reserve, and asked what it was granted."""
        self.wait_for(lambda: self.reserves and not self.reserves[-1].HasField("wait"))

    def settlement(self, job_id: str) -> Settlement:
        """How the job was settled first; waits for it."""
        token = self._tokens[job_id]
        self.wait_for(lambda: token in self._settlements)
        return self._settlements[token]

    def ack(self, job_id: str) -> Ack:
        settlement = self.settlement(job_id)
        assert isinstance(settlement, Ack), settlement
        return settlement

    def nack(self, job_id: str) -> Nack:
        settlement = self.settlement(job_id)
        assert isinstance(settlement, Nack), settlement
        return settlement

    def is_settled(self, job_id: str) -> bool:
        return self._tokens[job_id] in self._settlements

    def is_leased(self, job_id: str) -> bool:
        return self._tokens[job_id] in self._live

    def settled_count(self) -> int:
        return len(self._settlements)

    def was_granted(self, job_id: str) -> bool:
        return job_id in self.grants()

    def heartbeats_of(self, job_id: str) -> int:
        return sum(
            lease.lease_token == self._tokens[job_id]
            for request in self.heartbeats
            for lease in request.leases
        )

    def grants(self) -> Counter[str]:
        """How often each job was granted by distinct calls."""
        return Counter(lease.job.id for leases in self._granted.values() for lease in leases)

    # What a worker calls

    def Reserve(self, request: ReserveRequest, context: Any) -> ReserveResponse:  # noqa: N802
        context.add_callback(self._notify)
        with self.changed:
            self.reserves.append(request)
            self.changed.notify_all()
            self._fail_if_scripted("Reserve", context, after=False)
            until = time.monotonic() + request.wait.ToTimedelta().total_seconds()
            self.parked += 1
            self.changed.notify_all()
            while request.request_id not in self._granted and not self._ready:
                if time.monotonic() >= until or not context.is_active():
                    break
                self.changed.wait(until - time.monotonic())
            self.parked -= 1
            if not context.is_active():
                return ReserveResponse()
            leases = self._grant(request)
            self._fail_if_scripted("Reserve", context, after=True)
            self._keep_back_if_scripted("Reserve", context)
            return ReserveResponse(leases=leases)

    def Ack(self, request: AckRequest, context: Any) -> AckResponse:  # noqa: N802
        return AckResponse(results=self._settle("Ack", list(request.acks), context))

    def Nack(self, request: NackRequest, context: Any) -> NackResponse:  # noqa: N802
        return NackResponse(results=self._settle("Nack", list(request.nacks), context))

    def Heartbeat(self, request: HeartbeatRequest, context: Any) -> HeartbeatResponse:  # noqa: N802
        with self.changed:
            self._fail_if_scripted("Heartbeat", context, after=False)
            self.heartbeats.append(request)
            self.changed.notify_all()
            results = [self._prolong(lease.lease_token) for lease in request.leases]
            self._fail_if_scripted("Heartbeat", context, after=True)
            return HeartbeatResponse(results=results, directive=self.directive)

    def Push(self, request: PushRequest, context: Any) -> PushResponse:  # noqa: N802
        self._not_here(context)

    def GetJob(self, request: GetJobRequest, context: Any) -> GetJobResponse:  # noqa: N802
        self._not_here(context)

    def ListJobs(self, request: ListJobsRequest, context: Any) -> ListJobsResponse:  # noqa: N802
        self._not_here(context)

    def CancelJob(self, request: CancelJobRequest, context: Any) -> CancelJobResponse:  # noqa: N802
        self._not_here(context)

    def PushStream(self, request_iterator: Any, context: Any) -> NoReturn:  # noqa: N802
        self._not_here(context)

    def Work(self, request_iterator: Any, context: Any) -> NoReturn:  # noqa: N802
        self._not_here(context)

    def _not_here(self, context: Any) -> NoReturn:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not a part of the fake broker")
        raise AssertionError("abort raises")

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _grant(self, request: ReserveRequest) -> list[job_pb2.Lease]:
        if request.request_id in self._granted:
            return [
                lease
                for lease in self._granted[request.request_id]
                if lease.lease_token in self._live
            ]
        leases: list[job_pb2.Lease] = []
        while self._ready and len(leases) < max(1, request.max_jobs):
            lease = self._ready.popleft()
            length = self.queue_leases.get(lease.job.queue, 30.0)
            if request.HasField("lease"):
                length = request.lease.ToTimedelta().total_seconds()
            if not lease.HasField("lease_remaining"):
                lease.lease_remaining.CopyFrom(duration(length))
            self._live[lease.lease_token] = length
            leases.append(lease)
        if leases:
            self._granted[request.request_id] = leases
        self.changed.notify_all()
        return leases

    def _settle(self, method: str, items: list[Any], context: Any) -> list[SettleResult]:
        with self.changed:
            self._fail_if_scripted(method, context, after=False)
            self.settle_calls.append(items)
            results = [self._settle_one(method, item) for item in items]
            self.changed.notify_all()
            self._fail_if_scripted(method, context, after=True)
            self._keep_back_if_scripted(method, context)
            return results

    def _settle_one(self, method: str, item: Settlement) -> SettleResult:
        token = item.lease_token
        if self.refused.get(token) == method:
            del self.refused[token]
            result = SettleResult(outcome=LeaseOutcome.LEASE_OUTCOME_REJECTED)
            result.error.message, result.error.reason = "scripted refusal", self.reason
            return result
        if token in self.lease_outcomes:
            return SettleResult(outcome=self.lease_outcomes[token])
        known = self._settlements.get(token)
        if known is not None and type(known) is not type(item):
            return SettleResult(outcome=LeaseOutcome.LEASE_OUTCOME_ALREADY_SETTLED)
        if known is None and token not in self._live:
            return SettleResult(outcome=LeaseOutcome.LEASE_OUTCOME_NOT_FOUND)
        self._settlements.setdefault(token, item)
        self._live.pop(token, None)
        return SettleResult(outcome=OK)

    def _prolong(self, token: str) -> HeartbeatResult:
        if self.refused.get(token) == "Heartbeat":
            del self.refused[token]
            result = HeartbeatResult(outcome=LeaseOutcome.LEASE_OUTCOME_REJECTED)
            result.error.message, result.error.reason = "scripted refusal", self.reason
            return result
        outcome = self.lease_outcomes.get(token)
        if outcome is None:
            outcome = OK if token in self._live else LeaseOutcome.LEASE_OUTCOME_NOT_FOUND
        remaining = duration(self._live[token]) if outcome == OK else None
        return HeartbeatResult(outcome=outcome, lease_remaining=remaining)

    def _fail_if_scripted(self, method: str, context: Any, *, after: bool) -> None:
        failures = self._failures.get(method)
        if failures and failures[0][1] is after:
            code, _ = failures.popleft()
            self.changed.notify_all()
            context.abort(code, "scripted failure")

    def _keep_back_if_scripted(self, method: str, context: Any) -> None:
        if method in self._kept_back:
            self._kept_back.remove(method)
            self._kept_back.add(f"answer of {method}")
            while context.is_active() and f"answer of {method}" in self._kept_back:
                self.changed.wait(PATIENCE)
