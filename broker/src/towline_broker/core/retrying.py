"""What becomes of a job after a failed attempt."""

from dataclasses import dataclass
from random import Random

from towline_broker.domain.jobs import DeadReason
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import Micros


@dataclass(frozen=True, slots=True)
class Verdict:
    """Either dead for a reason, or to run again at ``due_at``."""

    due_at: Micros | None = None
    dead_reason: DeadReason | None = None


def base_delay(policy: RetryPolicy, failures: int) -> Micros:
    """The delay after so many failures (1 or more), before jitter."""
    backoff = policy.backoff
    if isinstance(backoff, DelayList):
        return backoff.delays[min(failures, len(backoff.delays)) - 1]
    if backoff.initial == 0:
        return 0  # of however large a factor
    try:
        delay = backoff.initial * backoff.multiplier ** (failures - 1)
    except OverflowError:
        return backoff.maximum
    return round(min(delay, backoff.maximum))


def after_failure(
    policy: RetryPolicy, attempt: int, now: Micros, rng: Random, delay: Micros | None = None
) -> Verdict:
    """``delay`` is what the worker asked for; None leaves it to the policy, with its jitter.

    Jitter only ever adds, so a retry never comes earlier than the policy says.
    """
    if attempt >= policy.max_attempts:
        return Verdict(dead_reason=DeadReason.ATTEMPTS_EXHAUSTED)
    if delay is None:
        delay = base_delay(policy, attempt)
        delay += round(delay * policy.jitter * rng.random())
    return Verdict(due_at=now + delay)


def after_lost_lease(policy: RetryPolicy, attempt: int, now: Micros) -> Verdict:
    """An orphaned job runs again at once (P8): its delay was the lease that had to run out."""
    if attempt >= policy.max_attempts:
        return Verdict(dead_reason=DeadReason.LEASE_EXPIRED)
    return Verdict(due_at=now)
