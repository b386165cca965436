"""P3: a unique key is held by one job at a time, and free once that has ended."""

from collections import defaultdict
from collections.abc import Iterator
from math import inf

from tests.faults.harness.history import Call, Pushed
from tests.faults.harness.stories import Stories, Story
from tests.faults.harness.violations import Violation

#: A job with fewer attempts may have died unseen.
_MANY_ATTEMPTS = 100


def unique_violations(stories: Stories) -> Iterator[Violation]:
    holders: dict[tuple[str, str], list[tuple[Call, Story]]] = defaultdict(list)
    for story in stories:
        for call, item in story.pushes:
            if item.answer == "existing" and item.stored_as not in ("", story.job_id):
                holder = stories.by_id.get(item.stored_as)
                yield from _never_held(story, call, item, holder)
                yield from _still_held(story, call, holder)
            elif item.answer == "created" and item.unique_key:
                holders[item.queue, item.unique_key].append((call, story))
    for pushes in holders.values():
        yield from _held_twice(pushes)


def _held_twice(pushes: list[tuple[Call, Story]]) -> Iterator[Violation]:
    """A second job got the key while the first certainly lived."""
    pushes.sort(key=lambda pair: pair[0].called)
    longest: tuple[Call, Story] | None = None
    for call, story in pushes:
        if longest is not None:
            first, holder = longest
            if first.returned < call.called and call.returned < _lives_until(holder):
                ids = (holder.job_id, story.job_id)
                text = f"{ids[1]} was stored with the key that {ids[0]} held"
                yield Violation("P3", "unique key held twice", ids, text, (first, call))
        if longest is None or _lives_until(story) > _lives_until(longest[1]):
            longest = (call, story)


def _never_held(
    story: Story, call: Call, item: Pushed, holder: Story | None
) -> Iterator[Violation]:
    """It was refused for the sake of a job that nobody had pushed with its key."""
    for push, other in holder.pushes if holder is not None else ():
        same = (other.queue, other.unique_key) == (item.queue, item.unique_key)
        if item.unique_key and same and push.called < call.returned:
            return
    text = f"it was said to stand as {item.stored_as}"
    yield Violation("P3", "refused for the sake of nobody", (story.job_id,), text, (call,))


def _still_held(story: Story, call: Call, holder: Story | None) -> Iterator[Violation]:
    """The key was refused for the sake of a job that had ended."""
    if holder is None or holder.revived:
        return
    if holder.spec is not None and holder.spec.unique_for is not None:
        return
    ends = [
        (settle, "was acknowledged" if item.action == "ack" else "was rejected")
        for grant in holder.grants.values()
        for settle, item in grant.settles
        if item.action in ("ack", "reject") and item.answer == "ok"
    ]
    ends += [(each, "was cancelled") for each, item in holder.cancels if item.answer == "cancelled"]
    for end, how in ends:
        if end.returned < call.called:
            ids = (holder.job_id, story.job_id)
            text = f"the key was said to be held by {ids[0]}, which {how} before"
            yield Violation("P3", "unique key not freed", ids, text, (end, call))
            return


def _lives_until(story: Story) -> float:
    """Certainly."""
    spec = story.spec
    if spec is None or spec.expires is not None or spec.max_attempts < _MANY_ATTEMPTS:
        return -inf
    if spec.unique_for is not None:
        return -inf  # the key is freed by time
    ends = [
        call.called
        for grant in story.grants.values()
        for call, item in grant.settles
        if item.action in ("ack", "reject")
    ]
    ends += [call.called for call, _ in story.cancels]
    return min(ends, default=inf)
