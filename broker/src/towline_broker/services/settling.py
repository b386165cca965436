"""From Acks, Nacks and Heartbeats to what the core is asked. Items are read one by one: one that is
wrong is answered for itself and leaves its batch alone."""

from collections.abc import Sequence

from towline.v1.job_pb2 import Failure as FailureMessage
from towline.v1.job_pb2 import Progress as ProgressMessage
from towline.v1.queue_service_pb2 import Ack, LeaseHeartbeat, LeaseOutcome, Nack, SettleResult
from towline_broker.core import tokens
from towline_broker.core.calls import (
    AckCall,
    DeadLetter,
    HeartbeatItem,
    NackCall,
    Release,
    RetryAfter,
    RetryByPolicy,
)
from towline_broker.core.calls import (
    LeaseOutcome as Outcome,
)
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import Failure, LeaseRef, Progress
from towline_broker.services import enums
from towline_broker.services.batches import Refusals, UnknownToken, in_order
from towline_broker.services.checks import Checks
from towline_broker.services.limits import Limits
from towline_broker.status import item_error

_NOT_FOUND = LeaseOutcome.LEASE_OUTCOME_NOT_FOUND
_REJECTED = LeaseOutcome.LEASE_OUTCOME_REJECTED


class SettleReader:
    """Every method raises UnknownToken, or InvalidField for the first field that is wrong."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def ack(self, ack: Ack, path: str) -> AckCall:
        ref = _ref(ack.lease_token)
        if len(ack.result) > self._limits.result_bytes:
            checks = Checks()
            checks.size(len(ack.result), f"{path}.result", self._limits.result_bytes)
            raise checks.found[0]
        return AckCall(ref, ack.result)

    def nack(self, nack: Nack, path: str) -> NackCall:
        ref = _ref(nack.lease_token)
        checks = Checks()
        action = self._action(nack, path, checks)
        _raise_first(checks)
        failure = self._failure(nack.failure) if nack.HasField("failure") else None
        return NackCall(ref, action, failure)

    def heartbeat(self, item: LeaseHeartbeat, path: str) -> HeartbeatItem:
        ref = _ref(item.lease_token)
        limits, checks = self._limits, Checks()
        extend = None
        if item.HasField("extend"):
            extend = checks.duration(
                item.extend, f"{path}.extend", limits.max_lease, limits.min_lease
            )
        progress = None
        if item.HasField("progress"):
            progress = self._progress(item.progress, f"{path}.progress", checks)
        _raise_first(checks)
        return HeartbeatItem(ref, extend, progress)

    def _action(
        self, nack: Nack, path: str, checks: Checks
    ) -> RetryByPolicy | RetryAfter | Release | DeadLetter:
        most = self._limits.period
        match nack.WhichOneof("action"):
            case "retry_after":
                return RetryAfter(checks.duration(nack.retry_after, f"{path}.retry_after", most))
            case "release":
                if not nack.release.HasField("delay"):
                    return Release()
                return Release(checks.duration(nack.release.delay, f"{path}.release.delay", most))
            case "dead_letter":
                if not nack.dead_letter:
                    checks.wrong(f"{path}.dead_letter", "is false; leave it unset or make it true")
                return DeadLetter()
        return RetryByPolicy()

    def _failure(self, failure: FailureMessage) -> Failure:
        limits = self._limits
        return Failure(
            type=cut(failure.type, limits.failure_type_bytes),
            message=cut(failure.message, limits.failure_message_bytes),
            trace=cut(failure.trace, limits.failure_trace_bytes, keep_end=True),
        )

    def _progress(self, progress: ProgressMessage, path: str, checks: Checks) -> Progress:
        limits = self._limits
        checks.real(progress.fraction, f"{path}.fraction", 0, 1)
        checks.size(len(progress.checkpoint), f"{path}.checkpoint", limits.checkpoint_bytes)
        return Progress(
            progress.fraction,
            cut(progress.message, limits.progress_message_bytes),
            progress.checkpoint,
        )


def cut(text: str, most: int, *, keep_end: bool = False) -> str:
    """At most ``most`` bytes of UTF-8, whole characters only, and no NUL, which some SQL databases
    cannot keep."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) * 4 <= most:
        return text
    raw = text.encode()
    if len(raw) <= most:
        return text
    return (raw[-most:] if keep_end else raw[:most]).decode(errors="ignore")


def _ref(token: str) -> LeaseRef:
    ref = tokens.decode(token)
    if ref is None:
        raise UnknownToken
    return ref


def _raise_first(checks: Checks) -> None:
    if checks.found:
        first: InvalidField = checks.found[0]
        raise first


def settle_results(outcomes: Sequence[Outcome], refused: Refusals) -> list[SettleResult]:
    return in_order(
        [SettleResult(outcome=enums.LEASE_OUTCOMES[outcome]) for outcome in outcomes],
        {
            place: SettleResult(outcome=_NOT_FOUND)
            if error is None
            else SettleResult(outcome=_REJECTED, error=item_error(error))
            for place, error in refused.items()
        },
    )
