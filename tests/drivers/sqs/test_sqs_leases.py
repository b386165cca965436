"""Leases that live in the broker over messages that live in SQS: what stays true of them."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.support.sqs_server import SqsServer
from tests.support.sqs_store import SqsHarness, SqsStore
from towline_broker.domain.errors import NotSupported, QueueFull, QueueNotFound
from towline_broker.domain.jobs import DeadReason, Progress, Settlement
from towline_broker.domain.retry import RetryPolicy
from towline_broker.domain.time import HOUR, MINUTE, SECOND
from towline_broker.drivers.interface import (
    DeadFilter,
    DeadSelection,
    Extended,
    Handled,
    NackItem,
    PushOutcome,
    QueueState,
    Settled,
)
from towline_broker.testing import new_job, new_jobs
from towline_broker.testing.factories import BOOM, LEASE


class Behind:
    """The SQS queue behind a queue of the store, as anybody else sees it."""

    def __init__(self, sqs: SqsServer, url: str, name: str = "q") -> None:
        prefix = url.partition("prefix=")[2].partition("&")[0]
        self.client = sqs.client()
        urls = self.client.list_queues(QueueNamePrefix=f"{prefix}{name}")["QueueUrls"]
        self.url = min(urls, key=len)
        self.dead_url = max(urls, key=len)

    def close(self) -> None:
        self.client.close()

    def send(self, text: str) -> None:
        self.client.send_message(QueueUrl=self.url, MessageBody=text)

    def count(self, url: str) -> int:
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "Delayed", "NotVisible")]
        answer = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(count) for count in answer["Attributes"].values())

    def texts(self) -> list[str]:
        """Of the messages that can be received, left as they are."""
        answer = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message["Body"] for message in answer.get("Messages", ())]


@pytest.fixture
def behind(sqs: SqsServer, url: str) -> Any:
    made: list[Behind] = []

    def look() -> Behind:
        made.append(Behind(sqs, url))
        return made[-1]

    yield look
    for each in made:
        each.close()


async def test_p2_jobs_go_to_one_worker_each_however_many_ask_at_once(store: SqsStore) -> None:
    jobs = new_jobs(30)
    await store.create(*jobs)
    taken = await asyncio.gather(*(store.reserve_ids(max_jobs=12) for _ in range(4)))
    assert sorted(job_id for ids in taken for job_id in ids) == sorted(job.id for job in jobs)


async def test_p3_a_job_that_was_sent_twice_runs_once(store: SqsStore, behind: Any) -> None:
    await store.create(job := new_job())
    sqs = behind()
    (text,) = sqs.texts()
    sqs.send(text)
    sqs.send(text)
    leased = await store.reserve(max_jobs=10)
    assert [one.ref.job_id for one in leased] == [job.id]
    sqs.send(text)
    assert (await store.ack(leased[0].ref))[0].applied
    sqs.send(text)
    assert await store.reserve(max_jobs=10) == []
    assert sqs.count(sqs.url) == 0


async def test_p2_a_message_that_sqs_hands_out_again_stays_with_its_lease(
    store: SqsStore, behind: Any
) -> None:
    await store.create(new_job())
    leased = await store.reserve_one()
    held: Any = store.driver._leases.live(leased.ref)  # type: ignore[attr-defined]
    sqs = behind()
    sqs.client.change_message_visibility(
        QueueUrl=sqs.url, ReceiptHandle=held.handle, VisibilityTimeout=0
    )
    before = held.handle
    assert await store.reserve() == []
    assert held.handle != before
    assert sqs.texts() == []
    # The copy was no attempt.
    await store.retry(leased.ref)
    again = await store.reserve_one()
    assert again.attempt == 2
    assert (await store.ack(again.ref))[0].applied
    assert sqs.count(sqs.url) == 0


async def test_p3_of_two_that_settle_one_lease_at_once_one_does(
    store: SqsStore, sent: list[Any]
) -> None:
    await store.create(new_job())
    leased = await store.reserve_one()
    (acked,), retried = await asyncio.gather(store.ack(leased.ref), store.retry(leased.ref))
    assert acked.applied
    assert retried == Settled(False, before=Settlement.ACKED)
    # Or else the message might have been shown to somebody in between.
    assert "change_message_visibility_batch" not in [operation for operation, _ in sent]


async def test_p3_two_pushes_of_one_job_at_once_store_it_once(store: SqsStore, behind: Any) -> None:
    job = new_job()
    (first,), (second,) = await asyncio.gather(store.push(job), store.push(job))
    assert (first.outcome, second.outcome) == (PushOutcome.CREATED, PushOutcome.EXISTING)
    sqs = behind()
    assert sqs.count(sqs.url) == 1


async def test_p5_after_a_restart_releases_count_but_no_attempt_is_beyond_the_last(
    store: SqsStore,
) -> None:
    await store.create(new_job(retry=RetryPolicy(max_attempts=2)))
    for _ in range(3):
        leased = await store.reserve_one()
        assert leased.attempt == 1
        await store.release(leased.ref)
    await store.reopen()
    assert (await store.reserve_one()).attempt == 2


async def test_p3_a_lease_of_another_broker_is_not_found_and_lives(
    store: SqsStore, url: str
) -> None:
    other = SqsStore(SqsHarness(url))
    await other.open()
    try:
        await store.create(new_job())
        other.advance(5 * SECOND)
        leased = await other.reserve_one()
        assert await store.ack(leased.ref) == [Settled(False)]
        assert await store.extend(leased.ref) == Extended(None)
        assert await store.reserve() == []
        assert (await other.ack(leased.ref))[0].applied
    finally:
        await other.close()


async def test_p7_a_job_dies_with_reason_failure_and_time(store: SqsStore, behind: Any) -> None:
    await store.create(job := new_job())
    leased = await store.reserve_one()
    await store.retry(leased.ref, failure=BOOM)
    leased = await store.reserve_one()
    assert leased.failure == BOOM
    assert (await store.bury(leased.ref, DeadReason.ATTEMPTS_EXHAUSTED)).applied
    assert store.heard.take()[1] == [job.id]
    sqs = behind()
    assert (sqs.count(sqs.url), sqs.count(sqs.dead_url)) == (0, 1)
    (message,) = sqs.client.receive_message(QueueUrl=sqs.dead_url, VisibilityTimeout=0)["Messages"]
    assert f'"death":[1,{store.now},2]' in message["Body"]
    assert "ValueError" in message["Body"]


async def test_p7_dead_jobs_of_a_queue_are_requeued_up_to_the_limit(store: SqsStore) -> None:
    await store.make_dead(*new_jobs(12, "a"))
    await store.make_dead(new_job("b"))
    of_a = DeadFilter(queue="a")
    selection = DeadSelection(11, store.now, filter=of_a)
    assert await store.driver.count_dead(selection) == 12
    store.heard.take()
    assert await store.driver.requeue_dead(selection) == Handled(12, 11)
    assert store.heard.take() == ({"a": 11}, [])
    leased = await store.reserve("a", max_jobs=20)
    assert {one.attempt for one in leased} == {1}
    assert len(leased) == 11
    everything = DeadSelection(100, store.now, filter=DeadFilter())
    assert await store.driver.discard_dead(everything, store.now) == Handled(2, 2)
    assert await store.driver.count_dead(everything) == 0


async def test_p7_jobs_that_die_while_others_are_requeued_stay_dead(store: SqsStore) -> None:
    await store.make_dead(*new_jobs(3))
    began = store.now
    await store.make_dead(new_job())
    guarded = DeadSelection(10, store.now, filter=DeadFilter(queue="q", dead_before=began))
    assert (await store.driver.requeue_dead(guarded)).handled == 3
    assert len(await store.reserve_ids()) == 3
    earlier = DeadFilter(queue="q", dead_before=store.now - HOUR)
    with pytest.raises(NotSupported, match="choose by queue only"):
        await store.driver.requeue_dead(DeadSelection(10, store.now, filter=earlier))


async def test_p10_sqs_is_asked_to_hide_no_message_for_more_than_twelve_hours(
    store: SqsStore, sent: list[Any]
) -> None:
    def hidden() -> int:
        seconds: int = sent[-1][1]["Entries"][0]["VisibilityTimeout"]
        return seconds

    await store.create(new_job())
    leased = await store.reserve_one(lease=12 * HOUR)
    granted_at = store.now
    store.advance(HOUR)
    assert await store.extend(leased.ref, 12 * HOUR) == Extended(granted_at + 12 * HOUR)
    shorter = await store.extend(leased.ref, HOUR)
    assert shorter == Extended(store.now + HOUR)
    store.advance(11 * HOUR)
    most = granted_at + 12 * HOUR - 5 * SECOND
    assert (await store.extend(leased.ref, 12 * HOUR)).lease_until == most
    assert hidden() == 0
    store.advance(-HOUR)
    assert (await store.retry(leased.ref, delay=2 * HOUR)).applied
    assert 3590 <= hidden() < 3600


async def test_p9_progress_and_failure_come_with_the_next_lease(store: SqsStore) -> None:
    await store.create(new_job())
    leased = await store.reserve_one()
    await store.extend(leased.ref, progress=Progress(0.5, "on", b"row 5"))
    await store.extend(leased.ref, progress=Progress(0.75, "on"))
    await store.release(leased.ref)
    again = await store.reserve_one()
    assert again.progress == Progress(0.75, "on", b"row 5")
    await store.nack(NackItem(again.ref, Settlement.RETRIED, store.now, failure=BOOM))
    assert (await store.reserve_one()).failure == BOOM


async def test_a_message_of_somebody_else_is_in_nobody_s_way(store: SqsStore, behind: Any) -> None:
    await store.create(*new_jobs(2))
    behind().send("not one of ours")
    assert len(await store.reserve_ids()) == 2
    assert await store.reserve() == []


async def test_a_pause_survives_and_is_seen_by_another_broker(store: SqsStore, url: str) -> None:
    await store.create(new_job())
    other = SqsStore(SqsHarness(url))
    await other.open()
    try:
        assert await store.driver.set_paused("q", True)
        other.advance(30 * SECOND)
        await other.forget_all()
        assert await other.driver.queues() == [QueueState("q", True)]
        assert await other.reserve() == []
        assert not await other.driver.set_paused("q", True)
    finally:
        await other.close()
    await store.reopen()
    assert await store.reserve() == []
    store.heard.take()
    assert await store.driver.set_paused("q", False)
    assert store.heard.take() == ({"q": 1}, [])
    with pytest.raises(QueueNotFound):
        await store.driver.set_paused("nowhere", True)


async def test_p11_sqs_which_is_paid_by_the_call_is_asked_for_its_queues_now_and_then(
    store: SqsStore, sent: list[Any]
) -> None:
    await store.create(*(new_job(name) for name in "abc"))
    sent.clear()
    for _ in range(60):
        store.advance(SECOND)
        await store.forget_all()
        assert len(await store.driver.queues()) == 3
    operations = Counter(operation for operation, _ in sent)
    assert operations == {"list_queues": 12, "list_queue_tags": 6}


async def test_p8_a_queue_that_another_broker_has_made_is_found(store: SqsStore, url: str) -> None:
    assert await store.reserve("new") == []
    other = SqsStore(SqsHarness(url))
    await other.open()
    try:
        await other.create(job := new_job("new"))
    finally:
        await other.close()
    store.advance(5 * SECOND)
    assert await store.reserve_ids("new") == [job.id]


async def test_p8_ready_jobs_are_told_of_at_opening(store: SqsStore) -> None:
    await store.create(*new_jobs(2, "a"), new_job("b", due_at=store.now + MINUTE))
    await store.reopen()
    assert store.heard.take() == ({"a": 2}, [])


async def test_p11_the_depth_of_a_queue_counts_jobs_of_every_broker(
    store: SqsStore, url: str
) -> None:
    await store.create(*new_jobs(2))
    other = SqsStore(SqsHarness(url))
    await other.open()
    try:
        with pytest.raises(QueueFull):
            await other.push(*new_jobs(2), max_depth={"q": 3})
        await other.push(new_job(), max_depth={"q": 3})
    finally:
        await other.close()
    store.advance(10 * SECOND)
    with pytest.raises(QueueFull):
        await store.push(new_job(), max_depth={"q": 3})
    leased = await store.reserve_one(lease=LEASE)
    await store.ack(leased.ref)
    await store.push(new_job(), max_depth={"q": 3})
