"""How the outcomes of the contract stand in a history."""

from towline.v1 import queue_service_pb2 as pb

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
