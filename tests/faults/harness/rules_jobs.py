"""P1, P3, P7, P9: nothing lost, done twice or in part, and a dead-letter queue that is exact."""

from collections.abc import Iterable, Iterator

from tests.faults.harness.history import Call, Outcome, Pushed, Settled
from tests.faults.harness.stories import CLOCK_ERROR, Stories, Story
from tests.faults.harness.violations import Violation

_ENDED = ("SUCCEEDED", "DEAD", "CANCELLED")


def job_violations(stories: Stories) -> Iterator[Violation]:
    for story in stories:
        yield from _kept(story, stories)
        yield from _refused(story)
        yield from _created_once(story)
        yield from _whole(story)
        yield from _ended_once(story)
        yield from _dead_letters(story, stories)
        yield from _given_although_expired(story, stories)


def _kept(story: Story, stories: Stories) -> Iterator[Violation]:
    """P1: what a producer was told is there has come to an end that somebody brought about."""
    final = story.final
    if final is not None and final.state not in _ENDED:
        yield _of(story, "P1", "never came to an end", f"it is {final.state} after the drain")
        return
    completed = story.settled("ack", certainly=False)
    forgotten = stories.history.final.forgets_succeeded
    # What has ended well is shown as long as its retention says; only a purge takes it away.
    purged = any(not item.answer for _, item in story.cancels)
    gone = story.discarded or purged or (forgotten and (completed or story.cancelled))
    if story.acknowledged and final is None and not story.dead and not gone:
        calls = tuple(call for call, item in story.pushes if item.answer)[:1]
        yield _of(story, "P1", "lost", "its Push returned, and it is nowhere", *calls)
    if final is not None and final.state == "SUCCEEDED" and not completed:
        yield _of(story, "P1", "succeeded by itself", "nobody acknowledged it")
    if story.settled("ack") and not forgotten and (final is None or final.state != "SUCCEEDED"):
        state = "nowhere" if final is None else final.state
        calls = _settling(story, "ack")
        yield _of(story, "P1", "an Ack was lost", f"it was acknowledged and is {state}", *calls)


def _refused(story: Story) -> Iterator[Violation]:
    """P9: of a Push that was refused nothing is there."""
    refused = [
        call
        for call, item in story.pushes
        if item.answer == "rejected" or call.outcome is Outcome.FAILED or _elsewhere(story, item)
    ]
    if refused and len(refused) == len(story.pushes) and story.stored:
        yield _of(story, "P9", "stored although refused", "every Push was refused", refused[0])


def _stands(story: Story, item: Pushed) -> bool:
    return item.answer in ("created", "existing") and not _elsewhere(story, item)


def _elsewhere(story: Story, item: Pushed) -> bool:
    """It was told that another job holds its unique key."""
    return item.answer == "existing" and item.stored_as not in ("", story.job_id)


def _created_once(story: Story) -> Iterator[Violation]:
    """P3: one effect for each id."""
    created = [call for call, item in story.pushes if item.answer == "created"]
    if len(created) > 1:
        yield _of(story, "P3", "stored twice", "two pushes created it", *created[:2])
    for call, item in story.pushes:
        if item.answer == "created" and item.stored_as not in ("", story.job_id):
            yield _of(story, "P3", "stored under another id", f"as {item.stored_as}", call)
    existing = [
        (call, item)
        for call, item in story.pushes
        if item.answer == "existing" and item.stored_as in ("", story.job_id)
    ]
    for call, item in existing:
        # It may stand twice in one call.
        others = [(each, one) for each, one in story.pushes if one is not item]
        before = [
            each
            for each, one in others
            if one.answer != "rejected" and each.outcome is not Outcome.FAILED
        ]
        if not any(each.called < call.returned for each in before):
            yield _of(story, "P3", "existed before its Push", "nobody had pushed it", call)


def _whole(story: Story) -> Iterator[Violation]:
    """P1: what is given is what was pushed."""
    for grant in story.grants.values():
        for call, item in grant.deliveries:
            if not item.whole:
                yield _of(story, "P1", "changed", "it is not what was pushed", call)
                return


def _ended_once(story: Story) -> Iterator[Violation]:
    acks = [grant for grant in story.grants.values() if grant.settled("ack")]
    if len(acks) > 1:
        calls = _settling(story, "ack")
        yield _of(story, "P3", "completed twice", "two leases were acknowledged", *calls)
    if acks and story.dead:
        yield _of(story, "P7", "completed and dead", "it is in both", *_settling(story, "ack"))


def _dead_letters(story: Story, stories: Stories) -> Iterator[Violation]:
    if story.dead > 1:
        yield _of(story, "P7", "dead more than once", f"ListDead shows it {story.dead} times")
    final = story.final
    if story.dead and final is not None and (not final.dead_reason or final.lived is None):
        yield _of(story, "P7", "dead without reason or time", f"it says {final}")
    if story.dead and final is not None and final.dead_reason != "EXPIRED" and not final.failed:
        yield _of(story, "P7", "dead without a failure", f"it says {final}")
    if story.revived or story.discarded:
        return
    if final is not None and final.dead_reason == "EXPIRED":
        yield from _expired_too_early(story, final.lived)
    must = _must_be_dead(story)
    if must and not story.dead and not story.cancelled:
        yield _of(story, "P7", "missing among the dead", *must)
    if story.dead and not _may_be_dead(story, stories):
        yield _of(story, "P7", "dead without a cause", "nothing that was seen explains it")
    reason = final.dead_reason if story.dead and final is not None else ""
    if reason and not _explains(reason, story, stories):
        yield _of(story, "P7", "dead for another reason", f"it says {reason}")


def _expired_too_early(story: Story, lived: float | None) -> Iterator[Violation]:
    expires = story.spec.expires if story.spec else None
    if expires is not None and lived is not None and lived < expires - CLOCK_ERROR:
        text = f"after {lived:g} s, and not after {expires:g}"
        yield _of(story, "P7", "expired too early", text)


def _given_although_expired(story: Story, stories: Stories) -> Iterator[Violation]:
    """A job that was not started by then is dead, and not given."""
    stood = [call.returned for call, item in story.pushes if _stands(story, item)]
    if not stood or story.spec is None or story.spec.expires is None or story.revived:
        return
    over = min(stood) + story.spec.expires + CLOCK_ERROR
    for grant in story.grants.values():
        first = grant.deliveries[0][0]
        unseen = stories.unseen_by.get(first.client)
        earlier = unseen is not None and unseen.touch(min(stood), first.called)
        if grant.attempt == 1 and grant.called > over and not earlier:
            text = f"it had expired by {over:.4f}"
            yield _of(story, "P7", "given although expired", text, first)


def _must_be_dead(story: Story) -> tuple[str, Call] | None:
    """Why, and the call that says so."""
    for grant in story.grants.values():
        for call, item in grant.settles:
            if item.answer != "ok":
                continue
            if item.action == "reject":
                return "it was rejected", call
            if item.action == "retry" and grant.attempt == _limit(story):
                return "its last attempt failed", call
    return None


def _may_be_dead(story: Story, stories: Stories) -> bool:
    return any(
        _explains(reason, story, stories)
        for reason in ("REJECTED", "ATTEMPTS_EXHAUSTED", "LEASE_EXPIRED", "EXPIRED")
    )


def _explains(reason: str, story: Story, stories: Stories) -> bool:
    """Whether what was seen can have led to it."""
    spec, grants, final = story.spec, story.grants.values(), story.final
    used_up = reason in ("ATTEMPTS_EXHAUSTED", "LEASE_EXPIRED")
    if used_up and final is not None and final.attempt != _limit(story):
        return False
    last = [grant for grant in grants if grant.attempt == _limit(story)]
    match reason:
        case "REJECTED":
            return story.settled("reject", certainly=False)
        case "ATTEMPTS_EXHAUSTED":
            return any(grant.settled("retry", certainly=False) for grant in last)
        case "LEASE_EXPIRED":
            ran_out = any(not _certainly_settled(grant.settles) for grant in last)
            # Or nobody saw the one that did: its attempt had been given back, or was never seen.
            given_back = all(grant.settled("release", certainly=False) for grant in last)
            return ran_out or (given_back and bool(stories.unseen))
        case "EXPIRED":
            started = any(not grant.settled("release", certainly=False) for grant in grants)
            return spec is not None and spec.expires is not None and not started
        case _:
            return False


def _certainly_settled(settles: Iterable[tuple[Call, Settled]]) -> bool:
    return any(item.answer == "ok" for _, item in settles)


def _limit(story: Story) -> int | None:
    return story.spec.max_attempts if story.spec else None


def _settling(story: Story, action: str) -> tuple[Call, ...]:
    return tuple(
        call
        for grant in story.grants.values()
        for call, item in grant.settles
        if item.action == action and item.answer == "ok"
    )[:2]


def _of(story: Story, promise: str, rule: str, text: str, *calls: Call) -> Violation:
    return Violation(promise, rule, (story.job_id,), text, calls)
