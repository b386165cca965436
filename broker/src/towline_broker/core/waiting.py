"""Calls that are parked until something happens: Reserves, and watches for the end of a job."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from towline_broker.core.clock import Clock
from towline_broker.domain.errors import TooManyWaiters
from towline_broker.domain.time import Micros

#: More than any broker has: all who wait for a queue are to look again.
EVERYBODY = 1_000_000_000


class WaitLimit:
    """P11: how many calls may be parked at the same time, of every kind together."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.parked = 0

    def __enter__(self) -> None:
        if self.parked >= self.limit:
            raise TooManyWaiters(self.limit)
        self.parked += 1

    def __exit__(self, *_: object) -> None:
        self.parked -= 1


class Waiter:
    """One parked Reserve. ``woken`` holds from being woken until it joins the line again."""

    __slots__ = (
        *("_event", "max_jobs", "over", "owed", "queues", "request_id", "superseded"),
        *("unheard", "woken"),
    )

    def __init__(self, queues: Sequence[str], max_jobs: int, request_id: str = "") -> None:
        self.queues = queues
        self.max_jobs = max_jobs
        #: As its stores know it; empty: it has none.
        self.request_id = request_id
        self.superseded = False
        self.woken = False
        #: A store of its queues gave no answer when it asked last.
        self.unheard = False
        #: It has waited for as long as it wanted to.
        self.over = False
        #: For how many jobs of which queue it was woken and has not accounted yet.
        self.owed: dict[str, int] = {}
        #: None of one that has not waited, which most never do.
        self._event: asyncio.Event | None = None

    def wake(self, queue: str, count: int) -> None:
        """For so many jobs of a queue."""
        self.owed[queue] = self.owed.get(queue, 0) + count
        self.stir()

    def stir(self) -> None:
        """Wakes it for no job: it is to see what else has changed."""
        self.woken = True
        self._set()

    def end(self) -> None:
        """Wakes it for good, to go home."""
        self.over = True
        self._set()

    def reset(self) -> None:
        self.woken = False
        if self._event is not None and not self.over:
            self._event.clear()

    def took(self, queues: Iterable[str], owed_before: Mapping[str, int], *, full: bool) -> None:
        """A claim of its own has brought one job from each of these (a queue once for each job).

        ``full``: it could take no more. It accounts for no job that came while it was under way:
        that one may have come behind it.
        """
        if not full and not self.woken:
            self.owed.clear()  # there was no more to be had
        elif owed_before:
            accounted = Counter(owed_before) & Counter(queues)
            self.owed = dict(Counter(self.owed) - accounted)

    async def stirred(self, clock: Clock, look_again: Micros | None) -> None:
        """Returns when woken or over, or when it is time to look again all the same."""
        if self.woken or self.over:
            return
        if self._event is None:
            self._event = asyncio.Event()
        if look_again is None:
            await self._event.wait()
            return
        timer = clock.call_at(look_again, self._event.set)
        try:
            await self._event.wait()
        finally:
            timer.cancel()

    def _set(self) -> None:
        if self._event is not None:
            self._event.set()


class ReserveLine:
    """Waiters by queue, first come first served.

    The rule that no job is left lying while somebody waits for it: a wake-up is for a number of
    jobs of one queue, and whoever was woken and goes without having taken so many (its call is
    gone, or it went home with other jobs) passes the rest on by :meth:`pass_on`.

    Who was woken for jobs that are coming looks for them before they are told of. Telling then
    wakes nobody else, but this one looks once more if it finds nothing: it may have been told of
    others.
    """

    def __init__(self) -> None:
        self._lines: dict[str, OrderedDict[Waiter, None]] = {}
        #: By queue, who was woken for how many jobs that were not told of yet.
        self._ahead: dict[str, dict[Waiter, int]] = {}
        #: By queue that somebody waits for, when the last look began that found nothing.
        self._in_vain: dict[str, Micros] = {}

    @property
    def queues(self) -> list[str]:
        """Those that somebody waits for."""
        return list(self._lines)

    def join(self, waiter: Waiter, *, first: bool = False) -> None:
        """``first``: back to the head, for one that was woken in vain."""
        waiter.reset()
        for queue in waiter.queues:
            line = self._lines.setdefault(queue, OrderedDict())
            line[waiter] = None
            if first:
                line.move_to_end(waiter, last=False)

    def looked(self, waiter: Waiter) -> None:
        """Its claim is answered."""
        if self._ahead and not waiter.woken:
            self._forget_ahead(waiter)

    def looked_in_vain(self, waiter: Waiter, at: Micros) -> None:
        """For everybody who waits for the same queues. ``at``: when the look began."""
        for queue in waiter.queues:
            if queue in self._lines:
                self._in_vain[queue] = at

    def last_in_vain(self, queues: Sequence[str]) -> Micros | None:
        """When each of these had been looked at since; None: not all were."""
        looks = [self._in_vain[queue] for queue in queues if queue in self._in_vain]
        return min(looks) if len(looks) == len(queues) else None

    def leave(self, waiter: Waiter) -> None:
        if self._ahead:
            self._forget_ahead(waiter)
        for queue in waiter.queues:
            line = self._lines.get(queue)
            if line is not None:
                line.pop(waiter, None)
                if not line:
                    del self._lines[queue]
                    self._in_vain.pop(queue, None)

    def wake(self, queue: str, count: int, *, ahead: bool = False) -> None:
        """Wakes waiters for ``count`` jobs, each for as many as it can take. ``ahead``: these are
        coming, and will be told of."""
        if not ahead and queue in self._ahead:
            count -= self._woken_ahead(queue, count)
        while count > 0 and (line := self._lines.get(queue)):
            waiter = next(iter(line))
            self.leave(waiter)
            share = min(count, waiter.max_jobs)
            waiter.wake(queue, share)
            if ahead:
                self._ahead.setdefault(queue, {})[waiter] = share
            count -= share

    def _woken_ahead(self, queue: str, count: int) -> int:
        """Of so many jobs that are told of, how many somebody looks for already."""
        covered, ahead = 0, self._ahead.pop(queue)
        while ahead and covered < count:
            waiter = next(iter(ahead))
            covered += ahead.pop(waiter)
            self.leave(waiter)
            waiter.stir()
            if covered > count:
                ahead[waiter] = covered - count
        if ahead:
            self._ahead[queue] = ahead
        return min(covered, count)

    def _forget_ahead(self, waiter: Waiter) -> None:
        for queue in waiter.queues:
            ahead = self._ahead.get(queue)
            if ahead is not None and ahead.pop(waiter, None) is not None and not ahead:
                del self._ahead[queue]

    def pass_on(self, waiter: Waiter) -> None:
        """Lets the next in line look for the jobs that this one was woken for and did not take."""
        for queue, count in waiter.owed.items():
            self.wake(queue, count)

    def wake_all(self) -> None:
        for waiter in {waiter for line in self._lines.values() for waiter in line}:
            self.leave(waiter)
            waiter.stir()


class EndWatch:
    """Calls that wait for a job to end."""

    def __init__(self) -> None:
        self._watches: dict[str, set[asyncio.Event]] = {}

    def add(self, job_id: str) -> asyncio.Event:
        event = asyncio.Event()
        self._watches.setdefault(job_id, set()).add(event)
        return event

    def remove(self, job_id: str, event: asyncio.Event) -> None:
        watches = self._watches.get(job_id)
        if watches is not None:
            watches.discard(event)
            if not watches:
                del self._watches[job_id]

    def ended(self, job_ids: Iterable[str]) -> None:
        if self._watches:
            for job_id in job_ids:
                for event in self._watches.get(job_id, ()):
                    event.set()

    def wake_all(self) -> None:
        self.ended(list(self._watches))
