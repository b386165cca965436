"""Who works for this broker.

The name of a worker is what it says that it is. So each identity has workers of its own: whoever
takes the name of another's is another worker, and neither hears nor changes what that one is told.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from towline_broker.core.calls import Directive, WorkerKey, WorkerView
from towline_broker.core.clock import Clock
from towline_broker.domain.jobs import Leased, LeaseRef
from towline_broker.domain.time import Micros


@dataclass(slots=True)
class _Worker:
    key: WorkerKey
    first_seen: Micros
    last_seen: Micros
    #: Of its last Reserve.
    queues: Sequence[str] = ()
    #: Each with its deadline.
    leases: dict[LeaseRef, Micros] = field(default_factory=dict)
    #: With so many leases, those past their deadline are sorted out.
    crowded: int = 1_000
    directive: Directive = Directive.NONE

    def held(self, now: Micros) -> dict[str, int]:
        """By queue. One that was settled by way of another broker counts until its deadline."""
        return Counter(ref.queue for ref, until in self.leases.items() if until > now)


class Workers:
    """Known by their calls; forgotten when not heard of for ``memory``, or when there are more than
    ``most`` that were heard of since."""

    def __init__(self, clock: Clock, memory: Micros, most: int) -> None:
        self._clock = clock
        self._memory = memory
        self._most = most
        #: In the order in which they were last heard of.
        self._workers: dict[WorkerKey, _Worker] = {}
        #: By lease and not by job: the next lease of a job may be another worker's.
        self._holders: dict[LeaseRef, _Worker] = {}

    def heard(self, key: WorkerKey) -> Directive:
        """UNSPECIFIED for an anonymous worker, which is not kept."""
        worker = self._touch(key)
        return Directive.UNSPECIFIED if worker is None else worker.directive

    def directive_of(self, key: WorkerKey) -> Directive:
        """Of one that is known; UNSPECIFIED of any other."""
        worker = self._workers.get(key)
        return Directive.UNSPECIFIED if worker is None else worker.directive

    def reserving(self, key: WorkerKey, queues: Sequence[str]) -> None:
        worker = self._touch(key)
        if worker is not None:
            worker.queues = queues

    def leased(self, key: WorkerKey, leases: Sequence[Leased]) -> None:
        worker = self._workers.get(key)
        if worker is not None:
            # A dict is copied without looking at its keys again.
            held = {leased.ref: leased.lease_until for leased in leases}
            worker.leases.update(held)
            self._holders.update(dict.fromkeys(held, worker))
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

    def direct(self, key: WorkerKey, directive: Directive) -> None:
        """Nothing is done if no such worker is known here."""
        self.forget_silent()
        worker = self._workers.get(key)
        if worker is not None:
            worker.directive = directive

    def views(self) -> list[WorkerView]:
        """In the order in which they were last heard of."""
        self.forget_silent()
        now = self._clock.now()
        return [
            WorkerView(w.key, w.queues, w.held(now), w.first_seen, w.last_seen, w.directive)
            for w in self._workers.values()
        ]

    def count(self) -> int:
        return len(self._workers)

    def keys(self) -> Collection[WorkerKey]:
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
        del self._workers[worker.key]
        for ref in worker.leases:
            self._holders.pop(ref, None)

    def _sort_out(self, worker: _Worker) -> None:
        now = self._clock.now()
        past = [ref for ref, until in worker.leases.items() if until <= now]
        self.settled(past)
        worker.crowded = max(1_000, 2 * len(worker.leases))

    def _touch(self, key: WorkerKey) -> _Worker | None:
        if not key.id:
            return None
        now = self._clock.now()
        worker = self._workers.pop(key, None) or _Worker(key, now, now)
        worker.last_seen = now
        self._workers[key] = worker
        if len(self._workers) > self._most:
            self._forget(next(iter(self._workers.values())))
        return worker
