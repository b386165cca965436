"""The enums of the contract beside those of the core."""

from towline.v1 import admin_service_pb2, job_pb2, queue_service_pb2
from towline.v1.job_pb2 import JobView
from towline_broker.core import calls
from towline_broker.domain import jobs
from towline_broker.drivers import interface as stores
from towline_broker.services.checks import Checks

STATES = {state: job_pb2.JobState.Value(f"JOB_STATE_{state.name}") for state in jobs.JobState}
STATES_BY_NUMBER = {int(number): state for state, number in STATES.items()}

DEAD_REASONS = {
    reason: job_pb2.DeadReason.Value(f"DEAD_REASON_{reason.name}") for reason in jobs.DeadReason
}
DEAD_REASONS_BY_NUMBER = {int(number): reason for reason, number in DEAD_REASONS.items()}

PUSH_OUTCOMES = {
    stores.PushOutcome.CREATED: queue_service_pb2.PUSH_OUTCOME_CREATED,
    stores.PushOutcome.EXISTING: queue_service_pb2.PUSH_OUTCOME_EXISTING,
}

CANCEL_OUTCOMES = {
    outcome: queue_service_pb2.CancelOutcome.Value(f"CANCEL_OUTCOME_{outcome.name}")
    for outcome in stores.CancelOutcome
}

LEASE_OUTCOMES = {
    outcome: queue_service_pb2.LeaseOutcome.Value(f"LEASE_OUTCOME_{outcome.name}")
    for outcome in calls.LeaseOutcome
}

DIRECTIVES = {
    directive: queue_service_pb2.WorkerDirective.Value(f"WORKER_DIRECTIVE_{directive.name}")
    for directive in calls.Directive
}
DIRECTIVES_BY_NUMBER = {int(number): directive for directive, number in DIRECTIVES.items()}

DURABILITIES = {
    durability: admin_service_pb2.Durability.Value(f"DURABILITY_{durability.name}")
    for durability in stores.Durability
}


def wants_all(view: JobView.ValueType, path: str, checks: Checks) -> bool:
    """Whether the FULL view is asked for."""
    if view not in JobView.values():
        checks.wrong(path, f"is {view}, which is no JobView")
    return view == JobView.JOB_VIEW_FULL
