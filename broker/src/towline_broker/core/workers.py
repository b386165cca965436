"""Who works for this broker."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from towline_broker.core.calls import Directive, WorkerView
from towline_broker.core.clock import Clock
from towline_broker.domain.jobs import Leased, LeaseRef
from towline_broker.domain.time import Micros

#: Identities that are told apart among those who use the name of one worker; the rest are one.
MOST_HOLDERS = 8
OTHERS = "others"


@dataclass(slots=True)
class _Worker:
    id: str
    first_seen: Micros
    last_seen: Micros
    #: By whom they are asked for, in its name: whoever takes the name of another adds queues to it,
    #: and takes none away, so that nobody can make it a worker that they may stop.
    queues: dict[str, Sequence[str]] = field(default_factory=dict)
    #: Each with its deadline.
    leases: dict[LeaseRef, Micros] = field(default_factory=dict)
    #: With so many leases, those past their deadline are sorted out.
    crowded: int = 1_000
    directive: Directive = Directive.NONE

    def serves(self) -> Sequence[str]:
        if len(self.queues) == 1:
            return next(iter(self.queues.values()))
        return sorted({queue for queues in self.queues.values() for queue in queues})

    def held(self, now: Micros) -> int:
        """One that was settled by way of another broker counts until its deadline."""
        return sum(until > now for until in self.leases.values())


class Workers:
    """Known by their calls; forgotten when not heard of for ``memory``, or when there are more than
    ``most`` that were heard of since."""

    def __init__(self, clock: Clock, memory: Micros, most: int) -> None:
        self._clock = clock
        self._memory = memory
        self._most = most
        #: In the order in which they were last heard of.
        self._workers: dict[str, _Worker] = {}
        #: By lease and not by job: the next lease of a job may be another worker's.
        self._holders: dict[LeaseRef, _Worker] = {}

    def heard(self, worker_id: str) -> Directive:
        """UNSPECIFIED for an anonymous worker, which is not kept."""
        worker = self._touch(worker_id)
        return Directive.UNSPECIFIED if worker is None else worker.directive

    def reserving(self, worker_id: str, queues: Sequence[str], holder: str = "") -> None:
        """``holder``: the mark of the identity that asks in its name."""
        worker = self._touch(worker_id)
        if worker is not None:
            known = holder in worker.queues or len(worker.queues) < MOST_HOLDERS
            worker.queues[holder if known else OTHERS] = queues

    def leased(self, worker_id: str, leases: Iterable[Leased]) -> None:
        worker = self._workers.get(worker_id)
        if worker is not None:
            for leased in leases:
                worker.leases[leased.ref] = leased.lease_until
                self._holders[leased.ref] = worker
            if len(worker.leases) > worker.crowded:
                self._sort_out(worker)

    def extended(self, ref: LeaseRef, until: Micros) -> None:
        worker = self._holders.get(ref)
        if worker is not None:
            worker.leases[ref] = until

    def settled(self, refs: Iterable[LeaseRef]) -> None:
        """These leases are no longer held, whatever ended them."""
        for ref in refs:
            worker = self._holders.pop(ref, None)
            if worker is not None:
                worker.leases.pop(ref, None)

    def direct(self, worker_id: str, directive: Directive) -> bool:
        """False: no such worker is known here."""
        self.forget_silent()
        worker = self._workers.get(worker_id)
        if worker is None:
            return False
        worker.directive = directive
        return True

    def views(self) -> list[WorkerView]:
        """In the order in which they were last heard of."""
        self.forget_silent()
        now = self._clock.now()
        return [
            WorkerView(w.id, w.serves(), w.held(now), w.first_seen, w.last_seen, w.directive)
            for w in self._workers.values()
        ]

    def count(self) -> int:
        return len(self._workers)

    def ids(self) -> Collection[str]:
        """Of those that were heard of lately."""
        self.forget_silent()
        return self._workers.keys()

    def forget_silent(self) -> None:
        horizon = self._clock.now() - self._memory
        while self._workers:
            worker = next(iter(self._workers.values()))
            if worker.last_seen > horizon:
                break
            self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        del self._workers[worker.id]
        for ref in worker.leases:
            self._holders.pop(ref, None)

    def _sort_out(self, worker: _Worker) -> None:
        now = self._clock.now()
        past = [ref for ref, until in worker.leases.items() if until <= now]
        self.settled(past)
        worker.crowded = max(1_000, 2 * len(worker.leases))

    def _touch(self, worker_id: str) -> _Worker | None:
        if not worker_id:
            return None
        now = self._clock.now()
        worker = self._workers.pop(worker_id, None) or _Worker(worker_id, now, now)
        worker.last_seen = now
        self._workers[worker_id] = worker
        if len(self._workers) > self._most:
            self._forget(next(iter(self._workers.values())))
        return worker
