"""What is set for queues, by name or by a pattern of names, and what applies to each of them.

Options come one by one: a queue has each from its own name, or else from the pattern that counts
most of those which it fits and which set that option (see :mod:`.routing`), or else from the
settings of the broker as a whole.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from msgspec.structs import replace

from towline_broker.core.routing import ambiguous, is_pattern, rank
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.names import fits
from towline_broker.domain.retry import DelayList, ExponentialBackoff
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import QueueState

#: Longer than any store keeps anything.
FOREVER: Micros = sys.maxsize
#: Queues whose rules are kept ready. Callers choose names, so there is no end of them.
MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class JobDefaults:
    """What a job has where it says nothing itself; None: what the contract says."""

    max_attempts: int | None = None
    backoff: DelayList | ExponentialBackoff | None = None
    jitter: float | None = None
    timeout: Micros | None = None
    retention: Micros | None = None


@dataclass(frozen=True, slots=True)
class QueueOptions(JobDefaults):
    """What is set under one name or pattern; None: nothing."""

    max_depth: int | None = None
    lease: Micros | None = None
    #: False: dead jobs are deleted at once.
    dead_letters: bool | None = None
    #: Dead jobs are deleted that long after their death.
    dead_letter_retention: Micros | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class QueueRules:
    """What applies to one queue."""

    #: Most live jobs.
    max_depth: int
    #: Length of a lease for which no length was asked.
    lease: Micros
    #: How long dead jobs are kept: 0 if not at all.
    dead_kept: Micros = FOREVER
    #: Reserve gets nothing from it, whatever its store says.
    paused: bool = False
    job: JobDefaults = JobDefaults()


_OPTIONS = tuple(each.name for each in fields(QueueOptions))
_FOR_JOBS = tuple(each.name for each in fields(JobDefaults))


class RuleBook:
    """The rules of every queue. May be replaced while the broker runs.

    The flags say whether any queue has such an option: while none has, nobody looks one up.
    """

    def __init__(
        self, settings: CoreSettings, options: Mapping[str, QueueOptions] | None = None
    ) -> None:
        """By name or pattern. Raises ValueError for two patterns of which neither comes first."""
        self._base = QueueRules(settings.max_queue_depth, settings.default_lease)
        #: Grows each time that they are replaced.
        self.edition = 0
        self.replace(options or {})

    def replace(self, options: Mapping[str, QueueOptions]) -> None:
        """From here on these apply, and none of those before. Raises ValueError as above, and
        changes nothing then."""
        for one, other in ambiguous(name for name in options if is_pattern(name)):
            raise ValueError(f"a queue can fit {one!r} and {other!r}, and neither comes first")
        self.edition += 1
        some: set[str] = set().union(*map(_set_in, options.values()))
        names = sorted((name for name in options if _set_in(options[name])), key=rank)
        #: Those that count most come first.
        self._ordered = [(name, options[name]) for name in reversed(names)]
        self._known: dict[str, QueueRules] = {}
        self.any_for_jobs = not some.isdisjoint(_FOR_JOBS)
        self.any_lease = "lease" in some
        self.any_paused = any(each.paused for each in options.values())
        self.any_dead_go = not some.isdisjoint({"dead_letters", "dead_letter_retention"})

    @property
    def default_lease(self) -> Micros:
        """Of queues of which nothing else is said."""
        return self._base.lease

    def of(self, queue: str) -> QueueRules:
        if not self._ordered:
            return self._base
        known = self._known.get(queue)
        return self._look_up(queue) if known is None else known

    def open(self, queues: Sequence[str]) -> Sequence[str]:
        """Those that are not paused; the very same list if none of them is."""
        if not self.any_paused or not any(self.of(queue).paused for queue in queues):
            return queues
        return [queue for queue in queues if not self.of(queue).paused]

    def with_pauses(self, states: Sequence[QueueState]) -> Sequence[QueueState]:
        """As the stores tell them, and paused as well where the settings say so."""
        if not self.any_paused:
            return states
        return [
            replace(state, paused=state.paused or self.of(state.name).paused) for state in states
        ]

    def _look_up(self, queue: str) -> QueueRules:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        rules = self._known[queue] = self._merged(
            [each for name, each in self._ordered if fits(name, queue)]
        )
        return rules

    def _merged(self, fitting: Sequence[QueueOptions]) -> QueueRules:
        merged = QueueOptions(**{name: _first(fitting, name) for name in _OPTIONS})
        kept = merged.dead_letter_retention
        if merged.dead_letters is False:
            kept = 0
        return QueueRules(
            max_depth=self._base.max_depth if merged.max_depth is None else merged.max_depth,
            lease=self._base.lease if merged.lease is None else merged.lease,
            dead_kept=FOREVER if kept is None else kept,
            paused=bool(merged.paused),
            job=JobDefaults(**{name: getattr(merged, name) for name in _FOR_JOBS}),
        )


def _set_in(options: QueueOptions) -> set[str]:
    return {name for name in _OPTIONS if getattr(options, name) is not None}


def _first(fitting: Iterable[QueueOptions], name: str) -> Any:
    found = (getattr(each, name) for each in fitting)
    return next((value for value in found if value is not None), None)
