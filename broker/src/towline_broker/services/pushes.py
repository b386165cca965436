"""Push: from the bytes of its request to those of its reply."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from towline.v1.queue_service_pb2 import PushOutcome, PushRequest, PushResponse, PushResult
from towline_broker.core.broker import Broker
from towline_broker.core.calls import ToStore
from towline_broker.domain.encoded import Encoded
from towline_broker.domain.errors import QueueFull, TooManyQueues, TowlineError
from towline_broker.domain.identity import Right, current_identity
from towline_broker.domain.time import Micros
from towline_broker.drivers import interface as stores
from towline_broker.services import enums
from towline_broker.services.batches import in_order
from towline_broker.services.checks import Checks
from towline_broker.services.item_rights import push_refused
from towline_broker.services.limits import Limits
from towline_broker.services.pushing import JobReader
from towline_broker.services.shapes import Shapes
from towline_broker.services.store_limits import StoreLimits
from towline_broker.services.wire import replies
from towline_broker.services.wire.batches import push_batch
from towline_broker.services.wire.fields import size_at, tag
from towline_broker.status import item_error

#: Jobs of a Push that are read in one go.
PORTION = 50

(_JOBS,) = tag(PushRequest.DESCRIPTOR, "jobs")


class Pushed(Encoded[PushRequest]):
    """A Push. ``known``: its jobs in their order; None for each that is yet to be read."""

    __slots__ = ("all_known", "allow_partial", "envelopes", "known")

    def __init__(
        self,
        raw: bytes,
        envelopes: Sequence[bytes],
        known: Sequence[ToStore | None],
        *,
        allow_partial: bool,
    ) -> None:
        super().__init__(raw, PushRequest.FromString)
        self.envelopes = envelopes
        self.known = known
        self.all_known = bool(known) and all(known)
        self.allow_partial = allow_partial

    @property
    def alone(self) -> ToStore | None:
        """Its one job, if it is known and is to be stored or refused as a whole."""
        return self.known[0] if len(self.known) == 1 and not self.allow_partial else None

    @property
    def queues(self) -> Collection[str]:
        """Those that its jobs name, each once; "" for jobs that name none."""
        if self.all_known:
            return {job.queue for job in self.known if job is not None}
        return {job.queue for job in self.message.jobs}


class Pushes:
    """``read`` and then ``answer``; in between is where it is looked at whether the caller may."""

    def __init__(self, broker: Broker, limits: Limits) -> None:
        self._broker = broker
        self._limits = limits
        self._reader = JobReader(limits, broker.jobs)
        self._shapes = Shapes(limits)
        #: Of the settings under which the shapes were read.
        self._edition = broker.jobs.edition

    def known_alone(self, raw: bytes) -> ToStore | None:
        """The job of a request that is this one job of a known shape, and nothing else. Whether its
        store offers what it asks for is not looked at."""
        self._forget_if_changed()
        try:
            size, start = size_at(raw, 1)
        except (IndexError, ValueError):
            return None
        if raw[0] != _JOBS or start + size != len(raw):
            return None
        return self._shapes.read_one(raw[start:])

    def _forget_if_changed(self) -> None:
        if self._edition != self._broker.jobs.edition:
            self._edition = self._broker.jobs.edition
            self._shapes.forget()

    def read(self, raw: bytes) -> Pushed:
        """Raises DecodeError for what is no request."""
        alone = self.known_alone(raw)
        if alone is not None:
            return Pushed(raw, (alone.envelope,), (alone,), allow_partial=False)
        envelopes, allow_partial = push_batch(raw)
        known: Sequence[ToStore | None] = [None] * len(envelopes)
        if len(envelopes) <= self._limits.batch:
            known = self._shapes.read(envelopes)
        pushed = Pushed(raw, envelopes, known, allow_partial=allow_partial)
        if not pushed.all_known:
            _ = pushed.message  # which finds out whether the others are jobs at all
        return pushed

    async def answer(self, pushed: Pushed) -> Encoded[PushResponse]:
        """Raises InvalidRequest, and what the core raises."""
        jobs: Sequence[ToStore]
        rejected: Mapping[int, PushResult]
        alone = pushed.alone
        if alone is not None and self._broker.capabilities_of(alone.queue).everything:
            jobs, rejected = [alone], {}
        else:
            jobs, rejected = await self.jobs_of(pushed)
        whole = not pushed.allow_partial
        results = await self._broker.jobs.push(jobs, all_or_nothing=whole) if jobs else []
        return Encoded(self.reply(jobs, results, rejected), PushResponse.FromString)

    async def jobs_of(self, pushed: Pushed) -> tuple[Sequence[ToStore], Mapping[int, PushResult]]:
        """What is to be stored, and, by their places, what the other jobs are answered: only those
        of a Push that is stored in part. Raises InvalidRequest."""
        checks = Checks()
        checks.count(pushed.envelopes, "jobs", self._limits.batch)
        checks.finish()
        if pushed.allow_partial:
            return await self._good_ones(pushed)
        return await self._read_all(pushed), {}

    async def _read_all(self, pushed: Pushed) -> Sequence[ToStore]:
        """Raises InvalidRequest."""
        checks = Checks()
        now, offers = self._broker.clock.now(), StoreLimits(self._broker.capabilities_of)
        jobs = _as_known(pushed, offers)
        if jobs is not None:
            return jobs
        jobs = []
        for index in range(len(pushed.known)):
            jobs.append(self._read(pushed, index, now, checks, offers))
            if checks.enough:
                break
            await _let_others_run(index)
        checks.finish()
        return jobs

    async def _good_ones(
        self, pushed: Pushed
    ) -> tuple[Sequence[ToStore], Mapping[int, PushResult]]:
        identity = current_identity()
        limited = not identity.may_everywhere(Right.PUSH)
        now, offers = self._broker.clock.now(), StoreLimits(self._broker.capabilities_of)
        rejected: dict[int, PushResult] = {}
        jobs = None if limited else _as_known(pushed, offers)
        if jobs is None:
            jobs = []
            for index in range(len(pushed.known)):
                checks = Checks()
                read = self._read(pushed, index, now, checks, offers)
                wrong = push_refused(identity, read.queue) if limited else None
                if wrong is None and checks.found:
                    wrong = checks.found[0]
                if wrong is not None:
                    rejected[index] = _rejected(read.id, wrong)
                else:
                    jobs.append(read)
                await _let_others_run(index)
        return jobs, rejected

    def _read(
        self, pushed: Pushed, index: int, now: Micros, checks: Checks, offers: StoreLimits
    ) -> ToStore:
        """The job is good only if nothing was found."""
        known = pushed.known[index]
        if known is not None and offers.everything(known.queue):
            return known
        job, found = pushed.message.jobs[index], len(checks.found)
        request = self._reader.read(job, f"jobs[{index}]", now, checks, offers)
        good = len(checks.found) == found
        if known is None and good and not self._broker.jobs.has_defaults(request.queue):
            self._shapes.learn(pushed.envelopes[index], job, request)
        return request

    def reply(
        self,
        jobs: Sequence[ToStore],
        results: Sequence[stores.PushResult],
        rejected: Mapping[int, PushResult],
    ) -> bytes:
        """To a push of these jobs, of which this came, and of those that were rejected before."""
        new = stores.PushOutcome.CREATED
        if results and not rejected and [r.outcome for r in results].count(new) == len(results):
            return replies.created([result.job_id for result in results])
        stored = [self._result(*pair) for pair in zip(jobs, results, strict=True)]
        return PushResponse(results=in_order(stored, rejected)).SerializeToString()

    def refusal(self, job: ToStore, result: stores.PushResult) -> TowlineError | None:
        """Why the store did not take it; None: it did, or had it before."""
        if result.outcome is stores.PushOutcome.QUEUE_FULL:
            return QueueFull(job.queue, self._broker.rules_of(job.queue).max_depth)
        if result.outcome is stores.PushOutcome.NO_NEW_QUEUE:
            return TooManyQueues(job.queue, self._broker.max_queues)
        return None

    def _result(self, job: ToStore, result: stores.PushResult) -> PushResult:
        refused = self.refusal(job, result)
        if refused is not None:
            return _rejected(job.id, refused)
        return PushResult(job_id=result.job_id, outcome=enums.PUSH_OUTCOMES[result.outcome])


def _as_known(pushed: Pushed, offers: StoreLimits) -> Sequence[ToStore] | None:
    """None: there is a job to be read."""
    if not pushed.all_known or not all(map(offers.everything, pushed.queues)):
        return None
    return cast("Sequence[ToStore]", pushed.known)  # none is None: all are known


def _rejected(job_id: str, error: TowlineError) -> PushResult:
    return PushResult(
        job_id=job_id, outcome=PushOutcome.PUSH_OUTCOME_REJECTED, error=item_error(error)
    )


async def _let_others_run(index: int) -> None:
    """To read a thousand jobs takes as long as to answer a dozen Acks: these need not wait."""
    if index % PORTION == PORTION - 1:
        await asyncio.sleep(0)
