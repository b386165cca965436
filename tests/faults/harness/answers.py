"""How the answers of the contract stand in a history."""

from tests.faults.harness.history import FinalJob
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import DeadReason, JobInfo, JobState

PUSHES = {
    pb.PushOutcome.PUSH_OUTCOME_CREATED: "created",
    pb.PushOutcome.PUSH_OUTCOME_EXISTING: "existing",
    pb.PushOutcome.PUSH_OUTCOME_REJECTED: "rejected",
}
#: Of settles and heartbeats.
LEASES = {
    pb.LeaseOutcome.LEASE_OUTCOME_OK: "ok",
    pb.LeaseOutcome.LEASE_OUTCOME_LEASE_LOST: "lease_lost",
    pb.LeaseOutcome.LEASE_OUTCOME_ALREADY_SETTLED: "already_settled",
    pb.LeaseOutcome.LEASE_OUTCOME_NOT_FOUND: "not_found",
    pb.LeaseOutcome.LEASE_OUTCOME_CANCELLED: "cancelled",
    pb.LeaseOutcome.LEASE_OUTCOME_REJECTED: "rejected",
}
CANCELS = {
    pb.CancelOutcome.CANCEL_OUTCOME_CANCELLED: "cancelled",
    pb.CancelOutcome.CANCEL_OUTCOME_ALREADY_ENDED: "already_ended",
    pb.CancelOutcome.CANCEL_OUTCOME_NOT_FOUND: "not_found",
}


def final_job(info: JobInfo) -> FinalJob:
    """Of what ListJobs shows when all is over."""
    reason = DeadReason.Name(info.dead_reason).removeprefix("DEAD_REASON_")
    begun, ended = info.enqueued_at.ToDatetime(), info.finished_at.ToDatetime()
    return FinalJob(
        job_id=info.job.id,
        state=JobState.Name(info.state).removeprefix("JOB_STATE_"),
        attempt=info.attempt,
        releases=info.releases,
        dead_reason="" if reason == "UNSPECIFIED" else reason,
        lived=(ended - begun).total_seconds() if info.HasField("finished_at") else None,
        failed=info.HasField("last_failure"),
    )


def numbers(message: admin.Totals | admin.Depth) -> dict[str, int]:
    """By the names of the contract."""
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
