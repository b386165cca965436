"""What one identity may take of a broker that several share."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import ByteSize, Field

from towline_broker.core.routing import is_pattern, precedence
from towline_broker.domain.names import fits
from towline_broker.interceptors.guarding import Allowance
from towline_broker.server.configuration.marks import LIVE, Section
from towline_broker.server.configuration.quantities import Bytes

#: Of everything, in bytes: more than a machine has.
MOST_BYTES = 1 << 50

Rate = Annotated[float, Field(ge=0, le=1_000_000), LIVE]
InFlight = Annotated[ByteSize, Bytes(0, MOST_BYTES), LIVE]
Waiters = Annotated[int, Field(ge=0, le=10_000_000), LIVE]


class IdentityGuards(Section):
    """Where an identity, or all whose names fit a pattern, are to have other limits."""

    calls_per_second: Rate | None = None
    """Of all calls but those that settle or prolong leases; 0: no limit."""
    bytes_in_flight: InFlight | None = None
    """Of requests that are being answered; 0: no limit."""
    waiters: Waiters | None = None
    """Calls that wait for jobs, or for the end of one, at the same time; 0: no limit."""
    answer_bytes: InFlight | None = None
    """Of answers that it has not read; 0: no limit."""


class GuardSettings(Section):
    """Limits of each identity. They need ``auth``, for without it nobody can be told from others:
    but for ``answer_bytes``, which all callers share then."""

    calls_per_second: Rate = 0
    """Of all calls but those that settle or prolong leases; those of a second may come at once. 0:
    no limit."""
    bytes_in_flight: InFlight = ByteSize(256 * 1024 * 1024)
    """Of requests that are being answered. Calls that settle leases may take a quarter more. 0: no
    limit."""
    waiters: Waiters = 5_000
    """Calls that wait for jobs, or for the end of one, at the same time; 0: no limit."""
    answer_bytes: InFlight = ByteSize(256 * 1024 * 1024)
    """Of answers that are made and were not read yet: while there are more, calls are refused that
    would bring large ones; from a quarter more on, all are. 0: no limit. Without ``auth`` it is for
    all callers together, whose name is ``anonymous``."""
    identities: Annotated[
        Mapping[Annotated[str, Field(min_length=1, max_length=256)], IdentityGuards], LIVE
    ] = {}
    """Other limits, by the name of an identity or a pattern of names; of patterns that fit, the one
    with more before its first *."""

    def allowance_of(self, identity: str) -> Allowance:
        """What the options say that are nearest to its name, each for itself."""
        near = [self.identities[name] for name in _nearest(self.identities, identity)]

        def first(option: str) -> float:
            found: list[float | None] = [getattr(options, option) for options in (*near, self)]
            return next(value for value in found if value is not None)

        return Allowance(
            calls_per_second=first("calls_per_second"),
            bytes_in_flight=int(first("bytes_in_flight")),
            waiters=int(first("waiters")),
            answer_bytes=int(first("answer_bytes")),
        )


def _nearest(names: Mapping[str, object], identity: str) -> list[str]:
    """Those that fit: the exact name, then patterns, the closest first."""
    patterns = [name for name in names if is_pattern(name) and fits(name, identity)]
    patterns.sort(key=precedence, reverse=True)
    return [*([identity] if identity in names and not is_pattern(identity) else []), *patterns]
