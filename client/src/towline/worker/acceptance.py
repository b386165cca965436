"""Which of the jobs that come in a worker runs, and what of their policy it sets itself.

Work is routed by queue, so a job can come that this worker does not run: of a type that it does not
know, that has no handle() here, or that its ``types`` leave out. Another worker of the queue may
run it: the job is given back, its attempt not counted, and rests for a while so that it does not
come straight back. The more jobs of a type come here, the longer each of them rests.
"""

from __future__ import annotations

import difflib
import logging
from dataclasses import dataclass
from datetime import timedelta

from towline.context import DEFAULT_MAX_ATTEMPTS
from towline.errors import ConfigurationError
from towline.registry import JobDefinition, Registry
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import Nack
from towline.worker import outcome
from towline.worker.errors import UnknownJobType
from towline.worker.leases import HeldLease, Settlement
from towline.worker.options import WorkerOptions

logger = logging.getLogger("towline.worker")

FIRST_DELAY = 5.0
LONGEST_DELAY = 60.0
"""Seconds for which a job that was given back is not leased again."""

MAX_TYPES = 10_000
"""Types that are remembered; types come from outside, so their number must be bounded."""


@dataclass(frozen=True)
class NotRun:
    """Why a job is given back. ``word`` is for logs."""

    error: UnknownJobType
    word: str


class Acceptance:
    """For one thread. Raises ConfigurationError for ``types`` that are not in the registry."""

    def __init__(self, registry: Registry, options: WorkerOptions) -> None:
        self._registry = registry
        self._types = None if options.types is None else _known(options.types, registry)
        self._max_attempts = options.max_attempts
        self._default_timeout = options.default_timeout
        self._met: dict[str, int] = {}

    def judge(self, job: job_pb2.Job) -> JobDefinition | NotRun:
        """Return how to run a job, or why it is not run here."""
        definition = self._registry.lookup(job.type)
        if definition is None:
            return NotRun(UnknownJobType(job.type, job.queue), "unknown job type")
        if not definition.runnable:
            error = UnknownJobType(job.type, job.queue, no_handle_in=definition.name)
            return NotRun(error, "no handle() in the class of")
        if self._types is not None and definition.type not in self._types:
            return NotRun(UnknownJobType(job.type, job.queue, left_out=True), "left out by types:")
        return definition

    def amend(self, job: job_pb2.Job, definition: JobDefinition) -> int | None:
        """Write the policy of this worker into its copy of the job, where every pool finds it.

        Returns how many attempts the worker lets the job have, if that is fewer than its policy.
        """
        named = job.HasField("timeout") or definition.timeout is not None
        if self._default_timeout is not None and not named:
            job.timeout.FromTimedelta(timedelta(seconds=self._default_timeout))
        most = self._max_attempts
        if most is None or most >= (job.retry.max_attempts or DEFAULT_MAX_ATTEMPTS):
            return None
        job.retry.max_attempts = most
        return most

    def give_back(self, job: job_pb2.Job, token: str, why: NotRun) -> Nack:
        """Return the Nack for a job that is not run here, and log it now and then."""
        times = self._meet(job.type)
        delay = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(times - 1, 10))
        if times & (times - 1) == 0:  # 1, 2, 4, 8, ...: told, without filling the log
            logger.warning(
                "%s %s (job %s, met %d times): given back for %g s",
                why.word,
                job.type,
                job.id,
                times,
                delay,
            )
        return outcome.release(token, outcome.failure_of(why.error), delay)

    def _meet(self, job_type: str) -> int:
        if job_type not in self._met and len(self._met) >= MAX_TYPES:
            self._met.clear()
        times = self._met[job_type] = self._met.get(job_type, 0) + 1
        return times


def limited(held: HeldLease, settlement: Settlement) -> Settlement:
    """Return a settlement, or instead of a retry the end of a job that has no tries left here."""
    if held.tries is None or held.context.attempt < held.tries:
        return settlement
    if isinstance(settlement, Nack) and settlement.WhichOneof("action") in (None, "retry_after"):
        return outcome.dead_letter(held.token, settlement.failure)
    return settlement


def _known(types: frozenset[str], registry: Registry) -> frozenset[str]:
    """The types by the names that they have now: jobs may still come under earlier ones."""
    known = set()
    for job_type in sorted(types):
        definition = registry.lookup(job_type)
        if definition is None:
            raise ConfigurationError(f"types: {_unknown(job_type, registry)}")
        known.add(definition.type)
    return frozenset(known)


def _unknown(job_type: str, registry: Registry) -> str:
    meant = difflib.get_close_matches(job_type, registry.types(), n=1)
    hint = f"; did you mean {meant[0]!r}?" if meant else ": import the module that defines it"
    return f"this worker knows no job type {job_type!r}{hint}"
