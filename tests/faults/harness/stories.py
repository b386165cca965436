"""A history, told job by job and lease by lease."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf

from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.history import (
    Beat,
    Call,
    Cancelled,
    Delivered,
    Discarded,
    FinalJob,
    History,
    Item,
    Outcome,
    Pushed,
    Requeued,
    Settled,
)

#: Brokers know the clock of their store to some milliseconds.
CLOCK_ERROR = 0.05


@dataclass(slots=True)
class Grant:
    """One lease; its token names it. A repeated Reserve may have brought it more than once."""

    token: str
    attempt: int
    #: It was granted after this: by the call that brought it first, or one of the same name before.
    called: float
    deliveries: list[tuple[Call, Delivered]] = field(default_factory=list)
    settles: list[tuple[Call, Settled]] = field(default_factory=list)
    beats: list[tuple[Call, Beat]] = field(default_factory=list)

    @property
    def returned(self) -> float:
        """It was granted before this."""
        return min(call.returned for call, _ in self.deliveries)

    @property
    def held_until(self) -> float:
        """Until here its worker did nothing to end it."""
        return min((call.called for call, _ in self.settles), default=inf)

    @property
    def lasts(self) -> float:
        """At least until here, unless its worker ended it: no broker can have reckoned the rest of
        it before the call began."""
        ends = [call.called + delivered.remaining for call, delivered in self.deliveries]
        ends += [call.called + beat.remaining for call, beat in self.beats if beat.answer == "ok"]
        return max(ends) - CLOCK_ERROR

    def settled(self, *actions: str, certainly: bool = True) -> bool:
        """By one of these actions; certainly, or perhaps."""
        answers = ("ok",) if certainly else ("ok", "")
        return any(item.action in actions and item.answer in answers for _, item in self.settles)


@dataclass(slots=True)
class Story:
    """All that befell one job."""

    job_id: str
    pushes: list[tuple[Call, Pushed]] = field(default_factory=list)
    #: By token, in the order of their answers.
    grants: dict[str, Grant] = field(default_factory=dict)
    cancels: list[tuple[Call, Cancelled]] = field(default_factory=list)
    requeues: list[tuple[Call, Requeued]] = field(default_factory=list)
    discards: list[tuple[Call, Discarded]] = field(default_factory=list)
    final: FinalJob | None = None
    #: How often ListDead shows it.
    dead: int = 0

    @property
    def spec(self) -> Pushed | None:
        """As it was pushed; None: nobody here pushed it."""
        return self.pushes[0][1] if self.pushes else None

    @property
    def acknowledged(self) -> bool:
        """A producer was told that it is there."""
        return any(
            item.answer in ("created", "existing") and item.stored_as in ("", self.job_id)
            for _, item in self.pushes
        )

    @property
    def stored(self) -> bool:
        """Certainly."""
        seen = self.grants or self.final is not None or self.dead
        return self.acknowledged or bool(seen)

    @property
    def in_order(self) -> list[Grant]:
        """As they were granted; an answer may have come late, so that attempts count first."""
        if self.revived:
            return sorted(self.grants.values(), key=lambda grant: grant.returned)
        return sorted(self.grants.values(), key=lambda grant: (grant.attempt, grant.returned))

    def settled(self, *actions: str, certainly: bool = True) -> bool:
        return any(grant.settled(*actions, certainly=certainly) for grant in self.grants.values())

    @property
    def revived(self) -> bool:
        """It was dead once and made ready again, or perhaps."""
        return any(item.done is not False for _, item in self.requeues)

    @property
    def discarded(self) -> bool:
        return any(item.done is not False for _, item in self.discards)

    @property
    def cancelled(self) -> bool:
        """Perhaps."""
        return any(item.answer in ("cancelled", "") for _, item in self.cancels)


class Stories:
    def __init__(self, history: History, assumptions: Assumptions) -> None:
        self.history = history
        #: What was taken of a lease that nobody was given.
        self.made_up: list[tuple[Call, Settled | Beat]] = []
        self.by_id: dict[str, Story] = _ById()
        self._first: dict[str, float] = {}
        for call in history.calls:
            if call.name:
                self._first[call.name] = min(call.called, self._first.get(call.name, inf))
        # What is done with a lease is told after all leases are known: calls stand in any order.
        later: list[tuple[Call, Settled | Beat]] = []
        for call in history.calls:
            for item in call.items:
                if call.outcome is Outcome.FAILED and not isinstance(item, Pushed):
                    continue  # it did nothing
                if isinstance(item, Settled | Beat):
                    later.append((call, item))
                else:
                    self._write(call, item)
        for call, item in later:
            self._write_on_lease(call, item)
        for job in history.final.jobs:
            self.by_id[job.job_id].final = job
        for job_id in history.final.dead:
            self.by_id[job_id].dead += 1

        late, locks = assumptions.late, assumptions.locks

        def waited_until(call: Call) -> float:
            return min(call.returned, call.called + assumptions.patience)

        lost = [c for c in history.calls if c.rpc == "Reserve" and c.outcome is Outcome.UNKNOWN]
        #: When leases may have been granted that nobody saw.
        self.unseen = Spans((call.called, waited_until(call) + late) for call in lost)
        #: By client: what its calls of unknown outcome were granted, a later one may have brought.
        self.unseen_by = {
            client: Spans(
                (call.called, waited_until(call)) for call in lost if call.client == client
            )
            for client in {call.client for call in lost}
        }
        #: When claims that came to nothing may have kept others from the jobs.
        kept = [] if locks is None else [(c.called, waited_until(c) + locks) for c in lost]
        self.locked = Spans(kept)

    def __iter__(self) -> Iterator[Story]:
        return iter(self.by_id.values())

    def _write(self, call: Call, item: Item) -> None:
        story = self.by_id[item.job_id]
        match item:
            case Pushed():
                story.pushes.append((call, item))
            case Delivered(token=token, attempt=attempt):
                called = self._first.get(call.name, call.called)
                grant = story.grants.setdefault(token, Grant(token, attempt, called))
                grant.called = min(grant.called, called)
                grant.deliveries.append((call, item))
            case Cancelled():
                story.cancels.append((call, item))
            case Requeued():
                story.requeues.append((call, item))
            case Discarded():
                story.discards.append((call, item))

    def _write_on_lease(self, call: Call, item: Settled | Beat) -> None:
        story = self.by_id.get(item.job_id)
        grant = story.grants.get(item.token) if story is not None else None
        if grant is None:
            if item.answer == "ok":
                self.made_up.append((call, item))
        elif isinstance(item, Settled):
            grant.settles.append((call, item))
        else:
            grant.beats.append((call, item))


class _ById(dict[str, Story]):
    def __missing__(self, job_id: str) -> Story:
        story = self[job_id] = Story(job_id)
        return story


class Spans:
    """Stretches of time."""

    def __init__(self, spans: Iterable[tuple[float, float]]) -> None:
        ordered = sorted(spans)
        self._begins = [begin for begin, _ in ordered]
        self._latest = list(accumulate((end for _, end in ordered), max))

    def __bool__(self) -> bool:
        return bool(self._begins)

    def touch(self, begin: float, end: float) -> bool:
        """Whether one of them has a moment in common with this stretch."""
        count = bisect_right(self._begins, end)
        return count > 0 and self._latest[count - 1] >= begin
