"""P1, P3, P5, P7: what is shown at the end agrees with itself, and somebody brought it about."""

from collections import Counter
from collections.abc import Iterator
from math import inf

from tests.faults.harness.stories import Stories, Story
from tests.faults.harness.violations import Violation


def end_violations(stories: Stories) -> Iterator[Violation]:
    shown = Counter(job.job_id for job in stories.history.final.jobs)
    for story in stories:
        if story.stored and not story.pushes:
            yield _of(story, "P3", "nobody pushed it", "it is there all the same")
        if shown[story.job_id] > 1:
            text = f"ListJobs shows it {shown[story.job_id]} times"
            yield _of(story, "P3", "shown more than once", text)
        yield from _in_both_lists(story)
        yield from _cancelled(story)
        yield from _discarded(story)
        yield from _leases_counted(story, stories)


def _in_both_lists(story: Story) -> Iterator[Violation]:
    """P7: ListJobs and ListDead have the same jobs dead."""
    state = "nowhere" if story.final is None else story.final.state
    if (state == "DEAD") != bool(story.dead):
        text = f"in ListJobs it is {state}, and ListDead shows it {story.dead} times"
        yield _of(story, "P7", "dead in one list only", text)


def _cancelled(story: Story) -> Iterator[Violation]:
    """P1: whoever is cancelled stays it, and is it because somebody wanted it."""
    final = story.final
    if final is None:
        return
    if final.state == "CANCELLED" and not story.cancelled:
        yield _of(story, "P1", "cancelled by itself", "nobody cancelled it")
    told = [call for call, item in story.cancels if item.answer == "cancelled"]
    if told and final.state != "CANCELLED":
        text = f"it was cancelled and is {final.state}"
        yield Violation("P1", "a cancel was lost", (story.job_id,), text, (told[0],))


def _discarded(story: Story) -> Iterator[Violation]:
    """P7: what was discarded is gone."""
    told = [call for call, item in story.discards if item.done]
    if told and (story.final is not None or story.dead):
        text = "it was discarded and is there all the same"
        yield Violation("P7", "discarded in vain", (story.job_id,), text, (told[0],))


def _leases_counted(story: Story, stories: Stories) -> Iterator[Violation]:
    """P5: attempts and releases together are the leases that were granted, seen or not."""
    final = story.final
    if final is None or story.revived:
        return
    counted, seen = final.attempt + final.releases, len(story.grants)
    pushed = min((call.called for call, _ in story.pushes), default=0.0)
    if counted < seen or (counted > seen and not stories.unseen.touch(pushed, inf)):
        text = f"{final.attempt} attempts and {final.releases} releases, of {seen} leases"
        yield _of(story, "P5", "leases not counted", text)
    least, most = (
        sum(grant.settled("release", certainly=sure) for grant in story.grants.values())
        for sure in (True, False)
    )
    if final.releases < least or final.releases > most + counted - seen:
        text = f"{final.releases} releases, expected {least} to {most}"
        yield _of(story, "P5", "releases not exact", text)


def _of(story: Story, promise: str, rule: str, text: str) -> Violation:
    return Violation(promise, rule, (story.job_id,), text)
