"""What becomes of pushed jobs, as messages."""

from towline.v1.queue_service_pb2 import PushOutcome, PushResult
from towline_broker.core.broker import Broker
from towline_broker.core.calls import JobRequest
from towline_broker.domain.errors import QueueFull, TooManyQueues, TowlineError
from towline_broker.drivers import interface as stores
from towline_broker.services import enums
from towline_broker.status import item_error


class PushResults:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def refusal(self, job: JobRequest, result: stores.PushResult) -> TowlineError | None:
        """None: it is stored, or was before."""
        if result.outcome is stores.PushOutcome.QUEUE_FULL:
            return QueueFull(job.queue, self._broker.rules_of(job.queue).max_depth)
        if result.outcome is stores.PushOutcome.NO_NEW_QUEUE:
            return TooManyQueues(job.queue, self._broker.max_queues)
        return None

    def of(self, job: JobRequest, result: stores.PushResult) -> PushResult:
        refused = self.refusal(job, result)
        if refused is not None:
            return rejected(job.id, refused)
        return PushResult(job_id=result.job_id, outcome=enums.PUSH_OUTCOMES[result.outcome])


def rejected(job_id: str, error: TowlineError) -> PushResult:
    return PushResult(
        job_id=job_id, outcome=PushOutcome.PUSH_OUTCOME_REJECTED, error=item_error(error)
    )
