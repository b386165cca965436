"""What a job's producer asks for when an attempt fails."""

import json

from msgspec import Struct

from towline_broker.domain.time import MINUTE, SECOND, Micros


class DelayList(Struct, frozen=True, gc=False):
    """One delay for each failure in turn; the last one repeats. Never empty."""

    delays: tuple[Micros, ...]


class ExponentialBackoff(Struct, frozen=True, gc=False):
    """``initial * multiplier ** (failures - 1)``, at most ``maximum``."""

    initial: Micros = 1 * SECOND
    multiplier: float = 2.0
    maximum: Micros = 10 * MINUTE


class RetryPolicy(Struct, frozen=True, gc=False):
    max_attempts: int = 3
    backoff: DelayList | ExponentialBackoff = ExponentialBackoff()
    #: Up to this share of the delay is added to it at random.
    jitter: float = 0.1

    def to_text(self) -> str | None:
        """A compact form for stores; None stands for the default policy."""
        if self == DEFAULT_POLICY:
            return None
        backoff = self.backoff
        shape = (
            list(backoff.delays)
            if isinstance(backoff, DelayList)
            else {"i": backoff.initial, "x": backoff.multiplier, "m": backoff.maximum}
        )
        return json.dumps([self.max_attempts, shape, self.jitter], separators=(",", ":"))

    @staticmethod
    def from_text(text: str | None) -> "RetryPolicy":
        """The inverse of :meth:`to_text`."""
        if text is None:
            return DEFAULT_POLICY
        max_attempts, shape, jitter = json.loads(text)
        backoff: DelayList | ExponentialBackoff
        if isinstance(shape, list):
            backoff = DelayList(tuple(shape))
        else:
            backoff = ExponentialBackoff(shape["i"], shape["x"], shape["m"])
        return RetryPolicy(max_attempts, backoff, jitter)


DEFAULT_POLICY = RetryPolicy()
