"""Honest histories, falsified in one place each, so that a promise is certainly broken there.

Each way takes a history that keeps every promise, and returns one that must be blamed; or None
where this history offers no place for it.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Generic, TypeAlias, TypeVar

from tests.faults.harness.history import (
    Call,
    Cancelled,
    Delivered,
    FinalJob,
    History,
    Item,
    Outcome,
    Pushed,
    Requeued,
    Settled,
)
from tests.faults.harness.honest_broker import LEASE

Falsify: TypeAlias = Callable[[History, Random], History | None]
Kind = TypeVar("Kind", bound=Item)


@dataclass(frozen=True, slots=True)
class Place(Generic[Kind]):
    """Of an item in a history."""

    call_number: int
    item_number: int
    call: Call
    item: Kind


def stored_twice(history: History, chance: Random) -> History | None:
    """P3: a repeated Push is told CREATED once more."""
    created = {each.item.job_id for each in _all(history, Pushed) if each.item.answer == "created"}
    repeats = [
        each
        for each in _all(history, Pushed)
        if each.item.answer == "existing" and each.item.stored_as == each.item.job_id
    ]
    found = _one(chance, [each for each in repeats if each.item.job_id in created])
    return None if found is None else _with(history, found, replace(found.item, answer="created"))


def delivered_after_its_ack(history: History, chance: Random) -> History | None:
    """P2."""
    found = _one(chance, [each for each in _all(history, Settled) if _ok(each.item, "ack")])
    return (
        None
        if found is None
        else _delivered(history, found.item.job_id, found.call.returned + 0.001, 9)
    )


def delivered_while_leased(history: History, chance: Random) -> History | None:
    """P2: somebody else gets the job at once, as its next attempt."""
    begun: dict[str, float] = {}
    for settle in _all(history, Settled):
        token = settle.item.token
        begun[token] = min(settle.call.called, begun.get(token, settle.call.called))
    cancelled = {each.item.job_id for each in _all(history, Cancelled)}
    live = [
        each
        for each in _all(history, Delivered)
        if begun.get(each.item.token, each.call.called + LEASE) > each.call.returned + 0.1
        and each.item.job_id not in cancelled
    ]
    found = _one(chance, live)
    if found is None:
        return None
    return _delivered(history, found.item.job_id, found.call.returned, found.item.attempt + 1)


def attempt_skipped(history: History, chance: Random) -> History | None:
    """P5, in a history in which the answer of every Reserve was heard."""
    if any(call.rpc == "Reserve" and call.outcome is Outcome.UNKNOWN for call in history.calls):
        return None
    revived = {each.item.job_id for each in _all(history, Requeued)}
    given_back = {each.item.job_id for each in _all(history, Settled) if _ok(each.item, "release")}
    first = [
        each
        for each in _all(history, Delivered)
        if each.item.attempt == 1 and each.item.job_id not in revived | given_back
    ]
    found = _one(chance, first)
    return None if found is None else _with(history, found, replace(found.item, attempt=2))


def stale_token_taken(history: History, chance: Random) -> History | None:
    """P2: a token is refused, for somebody else has the job since then; now it is said to be
    taken."""
    deliveries = _all(history, Delivered)
    settles = _all(history, Settled)
    tries = Counter(each.item.token for each in settles)

    def overtaken(settle: Place[Settled]) -> bool:
        mine = [each for each in deliveries if each.item.token == settle.item.token]
        return any(
            each.item.job_id == settle.item.job_id
            and each.call.returned < settle.call.called
            and each.call.called > mine[0].call.returned
            for each in deliveries
        )

    lost = [each for each in settles if each.item.answer == "lease_lost"]
    found = _one(chance, [each for each in lost if tries[each.item.token] == 1 and overtaken(each)])
    return None if found is None else _with(history, found, replace(found.item, answer="ok"))


def repeat_told_otherwise(history: History, chance: Random) -> History | None:
    """P3: the same settle once more is told another thing."""
    first: dict[tuple[str, str], float] = {}
    for each in sorted(_all(history, Settled), key=lambda each: each.call.returned):
        if each.item.answer == "ok":
            first.setdefault((each.item.token, each.item.action), each.call.returned)
    again = [
        each
        for each in _all(history, Settled)
        if each.call.called > first.get((each.item.token, each.item.action), each.call.called)
    ]
    found = _one(chance, again)
    return (
        None if found is None else _with(history, found, replace(found.item, answer="lease_lost"))
    )


def given_too_early(history: History, chance: Random) -> History | None:
    """P10: its delay was to be far longer than it was."""
    revived = {each.item.job_id for each in _all(history, Requeued)}
    brought = {each.item.job_id for each in _all(history, Delivered)} - revived
    once = Counter(each.item.job_id for each in _all(history, Pushed))
    late = [
        each
        for each in _all(history, Pushed)
        if each.item.delay and each.item.job_id in brought and once[each.item.job_id] == 1
    ]
    found = _one(chance, late)
    return None if found is None else _with(history, found, replace(found.item, delay=600.0))


def overtaken(history: History, chance: Random) -> History | None:
    """P6: two plain jobs of one priority, of which one was pushed and left before the other was
    pushed or left, change places in the answers that brought them."""
    plain = _plain(history)
    pairs = [
        (one, other)
        for one in plain
        for other in plain
        if one[0].call.returned < other[0].call.called
        and one[1].call.returned < other[1].call.called
        and one[0].item.priority == other[0].item.priority
    ]
    if not pairs:
        return None
    (_, one), (_, other) = chance.choice(pairs)
    both = {one.item.job_id: other.item.job_id, other.item.job_id: one.item.job_id}
    calls = [
        replace(call, items=tuple(_renamed(item, both) for item in call.items))
        for call in history.calls
    ]
    return replace(history, calls=calls)


def lost(history: History, chance: Random) -> History | None:
    """P1: a job was stored and nobody hears of it again."""
    pushed = [each for each in _all(history, Pushed) if each.item.answer == "created"]
    found = _one(chance, pushed)
    if found is None:
        return None
    job_id = found.item.job_id
    calls = [
        replace(
            call,
            items=tuple(i for i in call.items if i.job_id != job_id or isinstance(i, Pushed)),
        )
        for call in history.calls
    ]
    final = replace(
        history.final,
        jobs=[job for job in history.final.jobs if job.job_id != job_id],
        dead=[each for each in history.final.dead if each != job_id],
    )
    return History(calls, final)


def dead_twice(history: History, chance: Random) -> History | None:
    """P7."""
    dead = history.final.dead
    return _ending(history, dead=[*dead, chance.choice(dead)]) if dead else None


def not_among_the_dead(history: History, chance: Random) -> History | None:
    """P7: it was rejected, and is in no list of the dead."""
    touched = {
        item.job_id
        for call in history.calls
        for item in call.items
        if not isinstance(item, Pushed | Delivered | Settled)
    }
    found = [
        each.item.job_id
        for each in _all(history, Settled)
        if _ok(each.item, "reject") and each.item.job_id not in touched
    ]
    if not found:
        return None
    job_id = chance.choice(found)
    return _ending(history, dead=[each for each in history.final.dead if each != job_id])


def dead_without_reason(history: History, chance: Random) -> History | None:
    """P7."""
    return _job_ending(history, chance, {"DEAD"}, dead_reason="")


def dead_without_an_end(history: History, chance: Random) -> History | None:
    """P7."""
    return _job_ending(history, chance, {"DEAD"}, lived=None)


def expired_too_early(history: History, chance: Random) -> History | None:
    """P7."""
    revived = {each.item.job_id for each in _all(history, Requeued)}
    expired = {
        each.job_id
        for each in history.final.jobs
        if each.dead_reason == "EXPIRED" and each.job_id not in revived
    }
    return _job_ending(history, chance, {"DEAD"}, expired, lived=0.0)


def left_behind(history: History, chance: Random) -> History | None:
    """P1: it never came to an end."""
    return _job_ending(history, chance, {"SUCCEEDED", "DEAD", "CANCELLED"}, state="READY")


def ack_undone(history: History, chance: Random) -> History | None:
    """P1."""
    acked = {each.item.job_id for each in _all(history, Settled) if _ok(each.item, "ack")}
    return _job_ending(history, chance, {"SUCCEEDED"}, acked, state="CANCELLED")


def total(name: str, by: int) -> Falsify:
    """Stats: by far more than what is not known."""

    def falsify(history: History, _: Random) -> History | None:
        totals = history.final.totals
        return _ending(history, totals=totals | {name: totals[name] + by})

    return falsify


def depth(name: str) -> Falsify:
    """Stats."""

    def falsify(history: History, _: Random) -> History | None:
        now = history.final.depth
        return _ending(history, depth=now | {name: now.get(name, 0) + 1})

    return falsify


# --- finding a place, and changing what stands there ---


def _all(history: History, kind: type[Kind]) -> list[Place[Kind]]:
    return [
        Place(number, place, call, item)
        for number, call in enumerate(history.calls)
        for place, item in enumerate(call.items)
        if isinstance(item, kind)
    ]


def _one(chance: Random, places: list[Place[Kind]]) -> Place[Kind] | None:
    return chance.choice(places) if places else None


def _ok(item: Settled, action: str) -> bool:
    return item.action == action and item.answer == "ok"


def _with(history: History, place: Place[Any], item: Item) -> History:
    items = list(place.call.items)
    items[place.item_number] = item
    calls = list(history.calls)
    calls[place.call_number] = replace(place.call, items=tuple(items))
    return replace(history, calls=calls)


def _delivered(history: History, job_id: str, at: float, attempt: int) -> History:
    """By one call more."""
    item = Delivered(job_id, attempt, f"{job_id}/more", LEASE)
    call = Call("more", "Reserve", at, at + 0.001, Outcome.OK, (item,))
    return replace(history, calls=[*history.calls, call])


def _plain(history: History) -> list[tuple[Place[Pushed], Place[Delivered]]]:
    """Jobs that were pushed once, without a delay, brought once and acknowledged: their ways."""
    pushes = {each.item.job_id: each for each in _all(history, Pushed)}
    brought = {each.item.job_id: each for each in _all(history, Delivered)}
    times = Counter((type(item), item.job_id) for call in history.calls for item in call.items)
    done = {job.job_id for job in history.final.jobs if job.state == "SUCCEEDED"}
    return [
        (push, brought[job_id])
        for job_id, push in pushes.items()
        if job_id in done
        and push.item.answer == "created"
        and not push.item.delay
        and times[Pushed, job_id] == times[Delivered, job_id] == times[Settled, job_id] == 1
        and not times[Requeued, job_id]
        and not times[Cancelled, job_id]
    ]


def _renamed(item: Item, names: dict[str, str]) -> Item:
    if isinstance(item, Delivered | Settled) and item.job_id in names:
        return replace(item, job_id=names[item.job_id])
    return item


def _ending(history: History, **changes: Any) -> History:
    return replace(history, final=replace(history.final, **changes))


def _job_ending(
    history: History,
    chance: Random,
    states: set[str],
    among: set[str] | None = None,
    **changes: Any,
) -> History | None:
    jobs = history.final.jobs
    found = [
        number
        for number, job in enumerate(jobs)
        if job.state in states and (among is None or job.job_id in among)
    ]
    if not found:
        return None
    number = chance.choice(found)
    changed: FinalJob = replace(jobs[number], **changes)
    return _ending(history, jobs=[*jobs[:number], changed, *jobs[number + 1 :]])
