"""P2, P5: one holder at a time, and attempts that are exact."""

from collections.abc import Iterator
from itertools import combinations, pairwise

from tests.faults.harness.history import Beat, Call, Delivered, Settled
from tests.faults.harness.stories import CLOCK_ERROR, Grant, Stories, Story
from tests.faults.harness.violations import Violation

#: What ends a job for good; a reject can be taken back by a requeue.
_ENDS = ("ack", "reject")


def lease_violations(stories: Stories, settle_memory: float) -> Iterator[Violation]:
    for call, item in stories.made_up:
        text = "a lease that nobody was given"
        yield Violation("P2", "unknown token accepted", (item.job_id,), text, (call,))
    for story in stories:
        if story.grants:
            yield from _overlaps(story)
            yield from _after_the_end(story)
            yield from _attempts(story, stories)
            for grant in story.grants.values():
                yield from _given_twice(story, grant)
                yield from _terms(story, grant)
                yield from _answers(story, grant, settle_memory)
                yield from _refused(story, grant)


def _overlaps(story: Story) -> Iterator[Violation]:
    for one, other in combinations(story.in_order, 2):
        if not _follows(other, one, story):
            continue
        if other.returned < min(one.lasts, one.held_until):
            text = f"attempt {other.attempt} was there while attempt {one.attempt} was live"
            yield _violation("P2", "overlapping leases", story, text, one, other)
        yield from _stale(story, one, other)


def _follows(later: Grant, earlier: Grant, story: Story) -> bool:
    """It was certainly granted after the other."""
    if later.called >= earlier.returned:
        return True
    return later.attempt > earlier.attempt and not story.revived


def _stale(story: Story, old: Grant, new: Grant) -> Iterator[Violation]:
    """A first settle of the old token, or a heartbeat of it, was taken although the new one was
    there."""
    taken = [call for call, item in old.settles if item.answer == "ok"]
    if taken and old.held_until > new.returned:
        text = f"a settle of attempt {old.attempt} was taken after attempt {new.attempt} was there"
        yield Violation(
            "P2", "stale token accepted", (story.job_id,), text, (*_brought(new), *taken[:1])
        )
    for call, beat in old.beats:
        if beat.answer == "ok" and call.called > new.returned:
            text = f"a heartbeat of attempt {old.attempt} was taken after attempt {new.attempt}"
            yield Violation(
                "P2", "stale token accepted", (story.job_id,), text, (*_brought(new), call)
            )


def _after_the_end(story: Story) -> Iterator[Violation]:
    """A Reserve that was called after the job had ended, and still brought it."""
    ends = [
        (call, item.action)
        for grant in story.grants.values()
        for call, item in grant.settles
        if item.action in _ENDS and item.answer == "ok"
    ]
    ends += [(call, "cancel") for call, item in story.cancels if item.answer == "cancelled"]
    for grant in story.grants.values():
        for call, action in ends:
            if grant.called <= call.returned or (action == "reject" and story.revived):
                continue
            text = f"attempt {grant.attempt} was given although the job's {action} had returned"
            yield Violation(
                "P2", "delivered after its end", (story.job_id,), text, (call, *_brought(grant))
            )


def _answers(story: Story, grant: Grant, settle_memory: float) -> Iterator[Violation]:
    """P3: a settle that is repeated is answered as the first time; two different ones do not both
    count; and a lease that is live is not refused."""
    told = sorted(((c, i) for c, i in grant.settles if i.answer), key=lambda pair: pair[0].called)
    for (first, one), (second, other) in combinations(told, 2):
        # A settle whose answer was lost may have been the first that counted.
        forgotten = second.returned > grant.held_until + settle_memory
        if second.called < first.returned or forgotten:
            continue
        wrong = _contradiction(one, other)
        if wrong:
            yield Violation(
                "P3", wrong, (story.job_id,), f"{one.answer}, then {other.answer}", (first, second)
            )


def _refused(story: Story, grant: Grant) -> Iterator[Violation]:
    """P2: a lease that is live is not refused, and has not been settled by nobody."""
    if story.cancelled or story.discarded:
        return
    asked: list[tuple[Call, Settled | Beat]] = [*grant.settles, *grant.beats]
    for call, item in asked:
        others = [each for each, other in grant.settles if other is not item]
        alone = all(each.called > call.returned for each in others)
        refused = item.answer in ("lease_lost", "not_found") and call.returned < grant.lasts
        if alone and (refused or item.answer == "already_settled"):
            what = item.action if isinstance(item, Settled) else "heartbeat"
            text = f"{what} was answered {item.answer} although the lease was live"
            yield Violation(
                "P2", "live lease refused", (story.job_id,), text, (*_brought(grant), call)
            )


def _terms(story: Story, grant: Grant) -> Iterator[Violation]:
    """P10: a lease is granted, and prolonged, for as long as was asked."""
    told: list[tuple[Call, Delivered | Beat, float]] = [
        *((call, item, grant.called) for call, item in grant.deliveries),
        *((call, beat, call.called) for call, beat in grant.beats if beat.answer == "ok"),
    ]
    for call, item, since in told:
        if item.term is None:
            continue
        least = item.term - (call.returned - since) - CLOCK_ERROR
        if not least <= item.remaining <= item.term + CLOCK_ERROR:
            text = f"{item.remaining:.3f} s were left of the {item.term:g} s that were asked"
            yield Violation("P10", "another term than asked", (story.job_id,), text, (call,))


def _given_twice(story: Story, grant: Grant) -> Iterator[Violation]:
    """P2: only a Reserve that is repeated by its name brings what it has brought before."""
    names = {call.name for call, _ in grant.deliveries}
    if len(grant.deliveries) > 1 and (len(names) > 1 or "" in names):
        calls = tuple(call for call, _ in grant.deliveries[:2])
        text = f"two calls brought attempt {grant.attempt}"
        yield Violation("P2", "one lease given twice", (story.job_id,), text, calls)


def _contradiction(one: Settled, other: Settled) -> str:
    if one.answer == "ok":
        if other.action == one.action and other.answer != "ok":
            return "another answer to the same settle"
        if other.action != one.action and other.answer == "ok":
            return "settled in two ways"
    if one.answer in ("lease_lost", "not_found") and other.answer == "ok":
        return "a lost lease was settled"
    return ""


def _attempts(story: Story, stories: Stories) -> Iterator[Violation]:
    grants = story.in_order
    limit = story.spec.max_attempts if story.spec else None
    for grant in grants:
        if limit is not None and grant.attempt > limit:
            text = f"attempt {grant.attempt} of at most {limit}"
            yield _violation("P5", "more attempts than allowed", story, text, grant)
    if story.revived:
        return
    if story.pushes:
        begin = min(call.called for call, _ in story.pushes)
        yield from _step(story, stories, None, grants[0], begin)
    for one, other in pairwise(grants):
        yield from _step(story, stories, one, other, one.called)
    yield from _at_the_end(story, stories, grants[-1])


def _step(
    story: Story, stories: Stories, one: Grant | None, other: Grant, begin: float
) -> Iterator[Violation]:
    """From one delivery to the next."""
    least, most = (1, 1) if one is None else _next_attempt(one)
    unseen = stories.unseen.touch(begin, other.returned)
    if other.attempt < least or (other.attempt > most and not unseen):
        was = "the push" if one is None else f"attempt {one.attempt}"
        text = f"attempt {other.attempt} came next after {was}"
        seen = (other,) if one is None else (one, other)
        yield _violation("P5", "attempts not exact", story, text, *seen)


def _next_attempt(grant: Grant) -> tuple[int, int]:
    if grant.settled("release"):
        return grant.attempt, grant.attempt
    if grant.settled("release", certainly=False):
        return grant.attempt, grant.attempt + 1
    return grant.attempt + 1, grant.attempt + 1


def _at_the_end(story: Story, stories: Stories, last: Grant) -> Iterator[Violation]:
    if story.final is None or stories.unseen.touch(last.called, float("inf")):
        return
    least, most = _next_attempt(last)
    if not least - 1 <= story.final.attempt <= most - 1:
        text = f"the job stands at {story.final.attempt} attempts after attempt {last.attempt}"
        yield _violation("P5", "attempts not exact", story, text, last)


def _violation(promise: str, rule: str, story: Story, text: str, *grants: Grant) -> Violation:
    calls = tuple(call for grant in grants for call in _brought(grant))
    return Violation(promise, rule, (story.job_id,), text, calls)


def _brought(grant: Grant) -> tuple[Call, ...]:
    return tuple(call for call, _ in grant.deliveries[:1])
