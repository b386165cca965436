"""Histories written down by hand, a line for each call."""

from dataclasses import replace
from math import inf
from typing import Any, Self

from tests.faults.harness.checker import judge
from tests.faults.harness.history import (
    Beat,
    Call,
    Cancelled,
    Delivered,
    Discarded,
    Final,
    FinalJob,
    History,
    Item,
    Outcome,
    Pushed,
    Requeued,
    Settled,
)

#: Seconds: how long each call takes, and of a lease.
TAKES, LEASE = 0.1, 5.0

_TOTALS = (
    *("pushed", "started", "completed", "failed", "retried", "released"),
    *("dead_lettered", "lease_expired", "cancelled", "requeued"),
)


class Told:
    """Each method is one call, made at the time ``at``; a grant is named by its attempt, or by
    ``of``. ``told`` sees to an end that agrees with nothing else than what it is given."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def push(self, *ids: str, at: float, answer: str = "created", **spec: Any) -> Self:
        return self._add("Push", at, *(Pushed(i, "q", answer=answer, **spec) for i in ids))

    def also_pushed(self, job_id: str) -> Self:
        """In the last call, once more."""
        call = self._calls.pop()
        twin = Pushed(job_id, "q", answer="existing")
        self._calls.append(replace(call, items=(*call.items, twin)))
        return self

    def reserve(self, *ids: str, at: float, attempt: int = 1, of: str = "") -> Self:
        jobs = (Delivered(i, attempt, _token(i, of or attempt), LEASE) for i in ids)
        return self._add("Reserve", at, *jobs)

    def gives(self, delivered: Delivered, at: float) -> Self:
        return self._add("Reserve", at, delivered)

    def settle(
        self,
        action: str,
        *ids: str,
        at: float,
        of: str | int = 1,
        answer: str = "ok",
        delay: float | None = None,
    ) -> Self:
        settles = (Settled(i, _token(i, of), action, delay, answer) for i in ids)
        return self._add("Settle", at, *settles)

    def beat(
        self,
        job_id: str,
        at: float,
        of: str | int = 1,
        answer: str = "ok",
        term: float | None = None,
    ) -> Self:
        beat = Beat(job_id, _token(job_id, of), answer, LEASE, term)
        return self._add("Heartbeat", at, beat)

    def cancel(self, job_id: str, at: float, answer: str = "cancelled") -> Self:
        return self._add("CancelJob", at, Cancelled(job_id, answer))

    def requeue(self, job_id: str, at: float) -> Self:
        return self._add("RequeueDead", at, Requeued(job_id, done=True))

    def discard(self, job_id: str, at: float) -> Self:
        return self._add("DiscardDead", at, Discarded(job_id, done=True))

    def unanswered(self) -> Self:
        """Of the last call nobody knows the outcome, and it never came back."""
        call = self._calls.pop()
        items = tuple(_without_answer(item) for item in call.items)
        items = () if call.rpc == "Reserve" else items
        self._calls.append(replace(call, returned=inf, outcome=Outcome.UNKNOWN, items=items))
        return self

    def refused(self) -> Self:
        """The last call was: as a whole, by its status."""
        call = self._calls.pop()
        items = tuple(_without_answer(item) for item in call.items)
        self._calls.append(replace(call, outcome=Outcome.FAILED, items=items))
        return self

    def told(self, *jobs: FinalJob, **totals: int) -> History:
        """``totals``: those that are not none. Without any, Stats was not asked."""
        dead = [job.job_id for job in jobs if job.state == "DEAD"]
        named = dict.fromkeys(_TOTALS, 0) | totals if totals else {}
        final = Final(list(jobs), dead, named, {"dead": len(dead)}, forgets_succeeded=False)
        return History(self._calls, final)

    def _add(self, rpc: str, at: float, *items: Item) -> Self:
        self._calls.append(Call("client", rpc, at, at + TAKES, Outcome.OK, items))
        return self


def succeeded(job_id: str, attempt: int = 1, releases: int = 0) -> FinalJob:
    return FinalJob(job_id, "SUCCEEDED", attempt, releases)


def dead(job_id: str, reason: str, attempt: int = 1, lived: float | None = inf) -> FinalJob:
    return FinalJob(job_id, "DEAD", attempt, 0, reason, lived)


def _token(job_id: str, grant: str | int) -> str:
    return f"{job_id}/{grant}"


def _without_answer(item: Item) -> Item:
    if isinstance(item, Requeued | Discarded):
        return replace(item, done=None)
    return item if isinstance(item, Delivered) else replace(item, answer="")


# --- what many begin with, and how they end ---


def rules(history: History) -> set[str]:
    return {f"{each.promise} {each.rule}" for each in judge(history).violations}


def done(attempt: int = 1) -> Told:
    """Job a was pushed, reserved and acknowledged."""
    return (
        Told()
        .push("a", at=1)
        .reserve("a", at=2, attempt=attempt)
        .settle("ack", "a", at=3, of=attempt)
    )


def failed(action: str = "retry", max_attempts: int = 3) -> Told:
    """Job a has failed once."""
    return (
        Told()
        .push("a", at=1, max_attempts=max_attempts)
        .reserve("a", at=2)
        .settle(action, "a", at=3)
    )


def holder() -> Told:
    """Job a, which holds a unique key, is at work."""
    return Told().push("a", at=1, max_attempts=1000, unique_key="k").reserve("a", at=2)


def lost_lease() -> Told:
    """Job a is at its second worker, for the first has not been heard of."""
    return Told().push("a", at=1).reserve("a", at=2).reserve("a", at=8, attempt=2)


A, B = succeeded("a"), succeeded("b")
A2 = succeeded("a", attempt=2)
