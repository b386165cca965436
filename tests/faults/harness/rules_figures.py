"""Stats agrees with what clients saw."""

from collections.abc import Iterator

from tests.faults.harness.history import Outcome
from tests.faults.harness.stories import Stories, Story
from tests.faults.harness.violations import Violation

_ALL = ("ack", "retry", "reject", "release")


def figure_violations(stories: Stories) -> Iterator[Violation]:
    """Depths are zero after a drain, and totals are what the history allows."""
    final = stories.history.final
    for name in ("scheduled", "ready", "leased"):
        if final.depth.get(name, 0):
            yield _of(f"depth.{name}", f"{final.depth[name]} after the drain, expected 0")
    if final.depth.get("dead", 0) != len(final.dead):
        yield _of(
            "depth.dead", f"{final.depth.get('dead', 0)}, and ListDead shows {len(final.dead)}"
        )
    if final.totals:
        yield from _bounds(stories)
        yield from _sums(stories)


def _bounds(stories: Stories) -> Iterator[Violation]:
    everything = list(stories)
    stored = sum(story.stored for story in everything)
    perhaps = sum(_perhaps_stored(story) for story in everything)
    yield from _between(stories, "pushed", stored, stored + perhaps)
    completed = sum(story.settled("ack") for story in everything)
    unsure = sum(
        not story.settled("ack") and story.settled("ack", certainly=False) for story in everything
    )
    yield from _between(stories, "completed", completed, completed + unsure)
    dead = len(stories.history.final.dead)
    requeued, discarded = _counted(everything)
    most = dead + requeued[1] + discarded[1]
    yield from _between(stories, "dead_lettered", dead + requeued[0] + discarded[0], most)
    yield from _between(stories, "requeued", *requeued)
    least = sum(_cancelled(story, certainly=True) for story in everything)
    most = sum(_cancelled(story, certainly=False) for story in everything)
    yield from _between(stories, "cancelled", least, most)
    yield from _leases(stories, everything)


def _leases(stories: Stories, everything: list[Story]) -> Iterator[Violation]:
    """How many were granted, and how each of them has ended."""
    totals = stories.history.final.totals
    grants = [(story, grant) for story in everything for grant in story.grants.values()]
    granted = sum(_granted(story) for story in everything)
    released = sum(grant.settled("release") for _, grant in grants)
    left = sum(
        not grant.settled(*_ALL, certainly=False) for story, grant in grants if not story.cancelled
    )
    if stories.unseen:
        told = all(
            story.final is not None and not story.revived for story in everything if story.stored
        )
        yield from _between(stories, "started", granted, granted if told else None)
        yield from _between(stories, "released", released, None)
        yield from _between(stories, "lease_expired", left, None)
    else:
        yield from _between(stories, "started", granted, granted)
        most = sum(grant.settled("release", certainly=False) for _, grant in grants)
        yield from _between(stories, "released", released, most)
        most = sum(not grant.settled(*_ALL) for _, grant in grants)
        yield from _between(stories, "lease_expired", left, most)
    # No lease that nobody saw was ended by a Nack.
    least, most = (
        sum(grant.settled("retry", "reject", certainly=sure) for _, grant in grants)
        for sure in (True, False)
    )
    nacked = totals["failed"] - totals["lease_expired"]
    if not least <= nacked <= most:
        yield _of("sum", f"failed is not lease_expired + {least} to {most} by Nacks: {totals}")


def _sums(stories: Stories) -> Iterator[Violation]:
    """Every lease has ended in one way, and every failure had one consequence."""
    totals = stories.history.final.totals
    ended = totals["completed"] + totals["failed"] + totals["released"]
    cancelled = totals["cancelled"]
    if not ended <= totals["started"] <= ended + cancelled:
        yield _of("sum", f"started is not completed + failed + released (+ cancelled): {totals}")
    shown = [job for job in stories.history.final.jobs if job.dead_reason == "EXPIRED"]
    # Of those that are not shown as dead any more some may have expired, too.
    hidden = sum(len(story.requeues) + len(story.discards) for story in stories if _expires(story))
    died = totals["dead_lettered"] - len(shown)
    if not died - hidden <= totals["failed"] - totals["retried"] <= died:
        text = f"failed is not retried + dead ({died}, {len(shown)} expired): {totals}"
        yield _of("sum", text)


def _perhaps_stored(story: Story) -> bool:
    return not story.stored and any(call.outcome is Outcome.UNKNOWN for call, _ in story.pushes)


def _granted(story: Story) -> int:
    """At least, as far as is known, by what is shown of the job or by what was seen."""
    if story.final is None or story.revived:
        return len(story.grants)
    return story.final.attempt + story.final.releases


def _cancelled(story: Story, *, certainly: bool) -> bool:
    answers = ("cancelled",) if certainly else ("cancelled", "")
    return any(item.answer in answers for _, item in story.cancels)


def _expires(story: Story) -> bool:
    return story.spec is not None and story.spec.expires is not None


def _counted(everything: list[Story]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Requeues and discards, each at least and at most."""
    requeued = [item.done for story in everything for _, item in story.requeues]
    discarded = [item.done for story in everything for _, item in story.discards]
    return _bounded(requeued), _bounded(discarded)


def _bounded(done: list[bool | None]) -> tuple[int, int]:
    return sum(each is True for each in done), sum(each is not False for each in done)


def _between(stories: Stories, name: str, least: int, most: int | None) -> Iterator[Violation]:
    said = stories.history.final.totals.get(name, 0)
    if said < least or (most is not None and said > most):
        expected = f"{least}" if least == most else f"{least} to {'any' if most is None else most}"
        yield _of(f"totals.{name}", f"{said}, expected {expected}")


def _of(name: str, text: str) -> Violation:
    return Violation("Stats", name, (), text)
