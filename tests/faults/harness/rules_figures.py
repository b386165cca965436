"""Stats agrees with what clients saw."""

from collections.abc import Iterator

from tests.faults.harness.history import Outcome
from tests.faults.harness.stories import Stories, Story
from tests.faults.harness.violations import Violation


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
    granted = sum(len(story.grants) for story in everything)
    released = sum(_releases(story, certainly=True) for story in everything)
    if stories.unseen:
        yield from _between(stories, "started", granted, None)
        yield from _between(stories, "released", released, None)
    else:
        yield from _between(stories, "started", granted, granted)
        most = sum(_releases(story, certainly=False) for story in everything)
        yield from _between(stories, "released", released, most)


def _sums(stories: Stories) -> Iterator[Violation]:
    """Every lease has ended in one way, and every failure had one consequence."""
    totals = stories.history.final.totals
    ended = totals["completed"] + totals["failed"] + totals["released"]
    cancelled = totals["cancelled"]
    if not ended <= totals["started"] <= ended + cancelled:
        yield _of("sum", f"started is not completed + failed + released (+ cancelled): {totals}")
    if any(story.revived or story.discarded for story in stories):
        return
    expired = sum(job.dead_reason == "EXPIRED" for job in stories.history.final.jobs)
    shown = sum(job.state == "DEAD" for job in stories.history.final.jobs)
    if shown == totals["dead_lettered"]:
        died = totals["dead_lettered"] - expired
        if totals["failed"] != totals["retried"] + died:
            yield _of("sum", f"failed is not retried + dead ({died}, {expired} expired): {totals}")


def _perhaps_stored(story: Story) -> bool:
    return not story.stored and any(call.outcome is Outcome.UNKNOWN for call, _ in story.pushes)


def _releases(story: Story, *, certainly: bool) -> int:
    return sum(grant.settled("release", certainly=certainly) for grant in story.grants.values())


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
