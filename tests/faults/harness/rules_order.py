"""P6, P10: the order in which a queue gives its jobs, and none before its time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

from tests.faults.harness.history import Call, Delivered
from tests.faults.harness.stories import CLOCK_ERROR, Grant, Stories, Story
from tests.faults.harness.violations import Violation


@dataclass(frozen=True, slots=True)
class Passage:
    """The way of a job through its queue, once."""

    story: Story
    priority: int
    push: Call
    #: The call that first brought it, and its place in the answer.
    first: Call
    place: int
    #: It was granted after this.
    called: float
    #: It became ready after this.
    since: float


def order_violations(stories: Stories, slack: float, undone: float) -> Iterator[Violation]:
    """``slack``: so much later than its Push, in seconds, all brokers of a store know of a job;
    ``undone``: for so long a claim that comes to nothing hides its jobs."""
    queues: dict[str, dict[int, list[Passage]]] = defaultdict(lambda: defaultdict(list))
    late: dict[tuple[str, int], list[Passage]] = defaultdict(list)
    for story in stories:
        passage = _passage(story, stories)
        if passage is not None and story.spec is not None:
            queues[story.spec.queue][passage.priority].append(passage)
        for each in _late(story):
            late[each.story.spec.queue if each.story.spec else "", each.priority].append(each)
    for queue, by_priority in queues.items():
        for priority, passages in by_priority.items():
            yield from _overtaken(passages, late[queue, priority], slack, undone)
        for low, high in combinations(sorted(by_priority), 2):
            yield from _passed_over(by_priority[high], by_priority[low], slack, undone)


def early_violations(stories: Stories) -> Iterator[Violation]:
    """P10: a job that was given before its delay was over. A requeue ends every delay."""
    for story in stories:
        if story.revived:
            continue
        grants = story.in_order
        spec = story.spec
        if spec is not None and spec.delay and grants:
            due = min(call.called for call, _ in story.pushes) + spec.delay - CLOCK_ERROR
            if grants[0].returned < due:
                yield _early(story, "its delay", due, grants[0].deliveries[0][0])
        for grant, later in pairwise(grants):
            # One that is repeated with another delay changes nothing, and is answered the same.
            settles = [each for each in grant.settles if each[1].answer in ("ok", "")]
            call, item = min(settles, key=lambda each: each[1].delay or 0.0, default=(None, None))
            if call is not None and item is not None and item.delay:
                due = grant.held_until + item.delay - CLOCK_ERROR
                if later.returned < due and grant.settled(item.action):
                    yield _early(story, f"the delay of its {item.action}", due, call)


def _early(story: Story, what: str, due: float, call: Call) -> Violation:
    text = f"{what} was not over before {due:.4f}"
    return Violation("P10", "given too early", (story.job_id,), text, (call,))


def _passage(story: Story, stories: Stories) -> Passage | None:
    """None if its place in the line is not known for certain."""
    if len(story.pushes) != 1 or not story.grants or story.revived:
        return None
    push, spec = story.pushes[0]
    if spec.delay or spec.answer != "created":
        return None
    grant = story.in_order[0]
    if grant.attempt != 1 or len(grant.deliveries) != 1:
        return None
    first, _ = grant.deliveries[0]
    unseen = stories.unseen_by.get(first.client)
    if unseen is not None and unseen.touch(push.called, first.called):
        return None  # it may have been granted to an earlier try of the same Reserve
    given_back = story.final is None or story.final.releases > 0
    if given_back and stories.unseen.touch(push.called, grant.called):
        return None
    if stories.locked.touch(grant.called, first.returned):
        return None
    place = _place(first, story.job_id)
    return Passage(story, spec.priority, push, first, place, grant.called, push.called)


def _late(story: Story) -> Iterator[Passage]:
    """The ways of a job that came back: behind all that was ready by then. (When one that was
    delayed became ready is not known: a broker that starts goes by the clock of its machine.)"""
    spec, grants = story.spec, story.in_order
    if spec is None or story.revived or not grants:
        return
    for one, other in pairwise(grants):
        ended = [call for call, item in one.settles if item.answer == "ok"]
        if other.attempt >= one.attempt and ended and other.called >= one.returned:
            yield _came(story, spec.priority, ended[0], other, one.held_until)


def _came(story: Story, priority: int, made: Call, grant: Grant, since: float) -> Passage:
    first = min((call for call, _ in grant.deliveries), key=lambda call: call.returned)
    return Passage(story, priority, made, first, 0, grant.called, since)


def _place(call: Call, job_id: str) -> int:
    brought = [item.job_id for item in call.items if isinstance(item, Delivered)]
    return brought.index(job_id)


def _overtaken(
    passages: list[Passage], late: list[Passage], slack: float, undone: float
) -> Iterator[Violation]:
    """Of two jobs of one priority the earlier one was still there when the later one left. ``late``
    are among the later ones only."""
    left = sorted([*passages, *late], key=lambda each: each.first.returned)
    waiting = sorted(passages, key=lambda each: each.called)
    latest: Passage | None = None
    gone = 0
    for each in waiting:
        while gone < len(left) and left[gone].first.returned + undone <= each.called:
            other = left[gone]
            gone += 1
            if latest is None or other.since > latest.since:
                latest = other
        if latest is not None and latest.since > each.push.returned + slack:
            yield _violation("left after a job that was ready later", each, latest)
    yield from _within_answers(passages, slack)


def _within_answers(passages: Iterable[Passage], slack: float) -> Iterator[Violation]:
    """The jobs of one answer stand in their order."""
    answers: dict[int, list[Passage]] = defaultdict(list)
    for each in passages:
        answers[id(each.first)].append(each)
    for together in answers.values():
        together.sort(key=lambda each: each.place)
        latest = together[0]
        for each in together[1:]:
            if latest.push.called > each.push.returned + slack:
                yield _violation("stands behind a job that was pushed later", each, latest)
            if each.push.called > latest.push.called:
                latest = each


def _passed_over(
    high: list[Passage], low: list[Passage], slack: float, undone: float
) -> Iterator[Violation]:
    """A job of lower priority left although one of higher priority was there, and stayed."""
    there = sorted(high, key=lambda each: each.push.returned)
    longest: Passage | None = None
    come = 0
    for each in sorted(low, key=lambda each: each.called):
        while come < len(there) and there[come].push.returned + slack < each.called:
            other = there[come]
            come += 1
            if longest is None or other.called > longest.called:
                longest = other
        if longest is not None and longest.called > each.first.returned + undone:
            yield _violation("stayed while one of lower priority left", longest, each)


def _violation(rule: str, early: Passage, late: Passage) -> Violation:
    ids = (early.story.job_id, late.story.job_id)
    calls = (early.push, late.push, late.first, early.first)
    return Violation("P6", rule, ids, f"{ids[1]} overtook {ids[0]}", calls)
