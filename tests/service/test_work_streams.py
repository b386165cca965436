"""Work: leases for credits, and everything that is done with them, over one call."""

import asyncio
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from tests.service.test_push_streams import reason, served
from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, calls_to, seconds
from tests.support.faulty_driver import FaultyDriver
from tests.support.streams import Works, job, pushing, working
from tests.support.waiting import until
from towline.v1.admin_service_pb2 import (
    Depth,
    ListWorkersRequest,
    PauseQueueRequest,
    ResumeQueueRequest,
    StatsRequest,
    StopWorkerRequest,
)
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    LeaseHeartbeat,
    LeaseOutcome,
    Nack,
    PushRequest,
    QueueChoice,
    Release,
    WorkerDirective,
    WorkOpening,
    WorkRequest,
)
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.time import SECOND
from towline_broker.services.streams import lifetime
from towline_broker.services.streams.acks import Acks, ReadAcks

OK = LeaseOutcome.LEASE_OUTCOME_OK
LOST = LeaseOutcome.LEASE_OUTCOME_LEASE_LOST
NOT_FOUND = LeaseOutcome.LEASE_OUTCOME_NOT_FOUND
SETTLED = LeaseOutcome.LEASE_OUTCOME_ALREADY_SETTLED


async def push(calls: Calls, number: int = 1, queue: str = "q") -> list[Job]:
    jobs = [job(queue) for _ in range(number)]
    await calls.queue.Push(PushRequest(jobs=jobs))
    return jobs


async def depth(calls: Calls) -> Depth:
    found: Depth = (await calls.admin.Stats(StatsRequest())).total.depth
    return found


async def comes_to(calls: Calls, ready: int, leased: int) -> None:
    async def there() -> bool:
        now = await depth(calls)
        return (now.ready, now.leased) == (ready, leased)

    await until(there, f"{ready} are ready and {leased} leased")


async def test_there_is_a_lease_for_each_credit_and_none_beyond(calls: Calls) -> None:
    jobs = await push(calls, 5)
    async with working(calls, credits=2) as stream:
        first = list(await stream.leased(2))
        await stream.ask()
        assert (await depth(calls)).leased == 2
        result = await stream.ack(*first, credits=2)
        assert [each.outcome for each in result.acks] == [OK, OK]
        assert [lease.job.id for lease in await stream.leased(4)] == [j.id for j in jobs[:4]]
        await stream.ask(credits=3)
        await stream.leased(5)
        late = await push(calls, 3)
        assert [lease.job.id for lease in (await stream.leased(7))[5:]] == [j.id for j in late[:2]]
        await comes_to(calls, ready=1, leased=5)


async def test_a_job_comes_at_once_to_a_stream_that_waits(calls: Calls) -> None:
    async with working(calls, "a", "b", credits=1) as stream, pushing(calls) as pushes:
        for queue in "bab":
            before = len(stream.leases)
            await pushes.push(job(queue))
            lease = (await stream.leased(before + 1))[-1]
            assert (lease.job.queue, lease.attempt) == (queue, 1)
            assert 3_590 < lease.lease_remaining.seconds <= 3_600
            await stream.ack(lease, credits=1)


async def test_withdrawn_credits_bring_nothing(calls: Calls) -> None:
    async with working(calls, credits=3) as stream:
        await stream.ask(withdraw=True)
        await push(calls, 3)
        await stream.ask()
        assert (stream.leases, (await depth(calls)).ready) == ([], 3)
        await stream.ask(credits=1)
        await stream.leased(1)
        await stream.ask(withdraw=True, credits=1)
        await stream.leased(2)
        await comes_to(calls, ready=1, leased=2)


async def test_everything_that_settles_goes_in_one_message(calls: Calls) -> None:
    await push(calls, 4)
    async with working(calls, credits=4) as stream:
        acked, released, held, _ = [lease.lease_token for lease in await stream.leased(4)]
        result = await stream.ask(
            acks=[Ack(lease_token=acked, result=b"1"), Ack(lease_token="no token")],
            nacks=[Nack(lease_token=released, release=Release()), Nack(lease_token=acked)],
            heartbeats=[LeaseHeartbeat(lease_token=held), LeaseHeartbeat(lease_token=released)],
        )
        assert [each.outcome for each in result.acks] == [OK, NOT_FOUND]
        assert [each.outcome for each in result.nacks] == [OK, SETTLED]
        assert [each.outcome for each in result.heartbeats] == [OK, SETTLED]
        assert result.heartbeats[0].lease_remaining.seconds > 3_590
        again = await stream.ask(acks=[Ack(lease_token=acked), Ack(lease_token=released)])
        assert [each.outcome for each in again.acks] == [OK, SETTLED]
        await stream.call.write(WorkRequest(acks=[Ack(lease_token=held)]))  # wants no answer
        assert (await stream.ask()).sequence
        assert await stream.finish() is grpc.StatusCode.OK
    await comes_to(calls, ready=1, leased=1)


async def test_an_item_that_is_wrong_is_answered_for_itself(calls: Calls) -> None:
    await push(calls, 2)
    async with working(calls, credits=2) as stream:
        one, two = [lease.lease_token for lease in await stream.leased(2)]
        too_large = b"x" * (1024 * 1024 + 1)
        result = await stream.ask(
            acks=[Ack(lease_token=one, result=too_large), Ack(lease_token=two)]
        )
        rejected, good = result.acks
        assert (rejected.error.field, good.outcome) == ("acks[0].result", OK)
        await comes_to(calls, ready=0, leased=1)


async def test_a_message_that_is_wrong_does_nothing_and_the_stream_goes_on(calls: Calls) -> None:
    await push(calls, 1)
    async with working(calls, credits=1) as stream:
        (lease,) = await stream.leased(1)
        for wrong, field in (
            ({"credits": 1_001}, "credits"),
            ({"credits": -1}, "credits"),
            ({"nacks": [Nack(lease_token="x")] * 1_001}, "nacks"),
        ):
            result = await stream.ask(acks=[Ack(lease_token=lease.lease_token)], **wrong)
            assert result.error.code == 3
            assert result.error.message.startswith(field)
        assert (await depth(calls)).leased == 1
        assert (await stream.ask(credits=1_000)).error.code == 0
        result = await stream.ack(lease, credits=1)
        assert result.error.message.startswith("credits: is 1, and 1001 would be open")


OPENINGS = {
    "open: is required": WorkRequest(credits=1),
    "open.queues: has 0": WorkRequest(open=WorkOpening()),
    "open.queues[0].name": WorkRequest(open=WorkOpening(queues=[QueueChoice(name="no queue")])),
    "open.lease": WorkRequest(open=WorkOpening(queues=[QueueChoice(name="q")], lease=seconds(0.1))),
    "open.held_tokens": WorkRequest(
        open=WorkOpening(queues=[QueueChoice(name="q")], held_tokens=["x"])
    ),
}


async def test_an_opening_that_is_wrong_is_refused_by_its_field(calls: Calls) -> None:
    for told, opening in OPENINGS.items():
        call = calls.queue.Work()
        await call.write(opening)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (error.value.details() or "").startswith(told)


async def test_a_stream_is_opened_once(calls: Calls) -> None:
    async with working(calls) as stream:
        await stream.send(open=WorkOpening(queues=[QueueChoice(name="q")]))
        assert await stream.ended() is grpc.StatusCode.INVALID_ARGUMENT


async def test_leases_that_were_not_written_when_the_connection_broke_go_back() -> None:
    driver = FaultyDriver()
    async with served(driver) as (_, calls):
        await push(calls, 3)
        async with working(calls) as stream:
            driver.hold("reserve")
            await stream.send(credits=3)
            await driver.reached["reserve"].wait()
            await stream.abandon()
            await depth(calls)  # the broker hears of the broken stream before it hears of this
            driver.let_go("reserve")
        await comes_to(calls, ready=3, leased=0)


async def test_leases_that_were_written_stay_when_others_of_their_claim_go_back(
    calls: Calls,
) -> None:
    for _ in range(8):
        large = [job("q", payload=bytes(200_000)) for _ in range(10)]
        await calls.queue.Push(PushRequest(jobs=large))
    call = calls.queue.Work()
    opening = WorkOpening(queues=[QueueChoice(name="q")], lease=seconds(3600))
    await call.write(WorkRequest(open=opening, credits=80))
    leases = (await call.read()).leases
    assert 0 < len(leases) < 80
    call.cancel()

    async def some_are_back() -> bool:
        return bool((await depth(calls)).ready)

    await until(some_are_back, "leases that were not written go back")
    now = await depth(calls)
    assert now.leased >= len(leases)
    acks = [Ack(lease_token=lease.lease_token) for lease in leases]
    reply = await calls.queue.Ack(AckRequest(acks=acks))
    assert {each.outcome for each in reply.results} == {OK}


async def test_who_comes_back_says_what_it_holds_and_the_rest_goes_back(calls: Calls) -> None:
    await push(calls, 4)
    async with working(calls, session_id="s", worker_id="w", credits=4) as stream:
        leases = list(await stream.leased(4))
        await stream.ack(leases[0])
    held = [leases[1].lease_token]
    stranger = {"session_id": "s", "worker_id": "another", "held_tokens": held}
    async with working(calls, **stranger):
        await comes_to(calls, ready=0, leased=3)
    async with working(calls, session_id="s", worker_id="w", held_tokens=held) as stream:
        await comes_to(calls, ready=2, leased=1)
        result = await stream.ack(*leases[1:])
        assert [each.outcome for each in result.acks] == [OK, SETTLED, SETTLED]
        result = await stream.ask(credits=2)
        assert [lease.attempt for lease in await stream.leased(2)] == [1, 1]


async def test_a_stream_gives_way_to_the_next_one_of_its_session(calls: Calls) -> None:
    await push(calls, 1)
    async with working(calls, session_id="s", credits=2) as old:
        await old.leased(1)
        async with working(calls, session_id="s", credits=1) as new:
            assert await old.ended() is grpc.StatusCode.UNAVAILABLE
            assert [lease.attempt for lease in await new.leased(1)] == [1]
            (result,) = (await new.ack(*old.leases)).acks
            assert result.outcome == SETTLED


async def test_after_the_end_of_a_stream_its_leases_are_settled_elsewhere(calls: Calls) -> None:
    await push(calls, 3)
    async with working(calls, credits=1, session_id="s") as stream:
        (lease,) = await stream.leased(1)
        assert await stream.finish() is grpc.StatusCode.OK
    await push(calls, 1)
    await comes_to(calls, ready=3, leased=1)
    reply = await calls.queue.Ack(AckRequest(acks=[Ack(lease_token=lease.lease_token)]))
    assert reply.results[0].outcome == OK


async def test_a_worker_that_dies_holds_its_jobs_until_their_leases_end(calls: Calls) -> None:
    (one,) = await push(calls)
    async with working(calls, credits=1, lease=seconds(1)) as stream:
        await stream.leased(1)
    async with working(calls, credits=1) as stream:
        (lease,) = await stream.leased(1)
        assert (lease.job.id, lease.attempt) == (one.id, 2)


async def test_a_drain_gives_no_more_jobs_and_settles_what_is_held() -> None:
    driver = FaultyDriver()
    async with served(driver) as (server, calls):
        await push(calls, 2)
        async with working(calls, credits=1) as stream:
            (lease,) = await stream.leased(1)
            draining = asyncio.ensure_future(server.drain(30 * SECOND))
            await stream.until(lambda: stream.closing)
            result = await stream.ack(lease, credits=1)
            assert [each.outcome for each in result.acks] == [OK]
            assert await stream.finish() is grpc.StatusCode.OK
            await draining
            assert len(stream.leases) == 1


async def test_a_store_that_is_away_is_asked_again_and_its_acks_fail_for_themselves() -> None:
    driver = FaultyDriver()
    async with served(driver) as (_, calls):
        await push(calls, 2)
        async with working(calls, credits=1) as stream:
            (lease,) = await stream.leased(1)
            driver.errors |= dict.fromkeys(("ack", "reserve"), StoreUnavailable("its host"))
            result = await stream.ack(lease, credits=1)
            assert (result.error.code, reason(result.error)) == (14, "STORE_UNAVAILABLE")
            assert not result.acks
            driver.errors.clear()
            assert (await stream.ack(lease)).acks[0].outcome == OK
            await stream.leased(2)


async def test_acks_that_a_defect_fails_fail_none_of_other_streams() -> None:
    heard = []

    async def ack(asked: list[Any]) -> list[str]:
        if any(each.ref.job_id == "broken" for each in asked):
            raise RuntimeError("of a defect")
        return ["done" for _ in asked]

    class Stream:
        def __init__(self, job_id: str) -> None:
            ref = SimpleNamespace(queue="q", job_id=job_id)
            ack: Any = SimpleNamespace(ref=ref)
            self.acks: Any = ReadAcks(1, [ack], 1)

        def acked(self, acks: ReadAcks, outcomes: Any) -> None:
            heard.append((acks, outcomes))

        def ack_failed(self, acks: ReadAcks, error: Exception) -> None:
            heard.append((acks, type(error)))

    broker: Any = SimpleNamespace(home_of=str, settling=SimpleNamespace(ack=ack))
    acks, streams = Acks(broker), [Stream("one"), Stream("broken"), Stream("another")]
    for stream in streams:
        acks.add(stream, stream.acks)

    async def all_heard() -> bool:
        return len(heard) == 3

    await until(all_heard, "each was told")
    outcomes = [["done"], RuntimeError, ["done"]]
    assert heard == [(each.acks, told) for each, told in zip(streams, outcomes, strict=True)]


async def test_a_worker_is_listed_and_hears_what_it_is_told(calls: Calls) -> None:
    async with working(calls, worker_id="w", credits=1) as stream:
        (worker,) = (await calls.admin.ListWorkers(ListWorkersRequest())).workers
        assert (worker.worker_id, list(worker.queues)) == ("w", ["q"])
        await calls.admin.StopWorker(StopWorkerRequest(worker_id="w"))
        await stream.ask()
        await stream.until(lambda: stream.directives)
        await stream.ask()
        assert stream.directives == [WorkerDirective.WORKER_DIRECTIVE_STOP]


async def test_a_paused_queue_gives_nothing_until_it_is_resumed(calls: Calls) -> None:
    await push(calls, 1)
    await calls.admin.PauseQueue(PauseQueueRequest(queue="q"))
    async with working(calls, credits=1) as stream:
        await stream.ask()
        assert not stream.leases
        await calls.admin.ResumeQueue(ResumeQueueRequest(queue="q"))
        await stream.leased(1)


async def test_no_job_is_lost_when_broker_and_workers_are_killed() -> None:
    """P1 to P3: whatever was answered has happened, and the rest happens again."""
    with BrokerProcess("file:///jobs") as broker:
        acked: set[str] = set()
        async with calls_to(broker.address) as calls:
            pushed = {each.id for each in await push(calls, 400)}
            async with working(calls, credits=50, lease=seconds(1)) as stream:
                await stream.leased(50)
                asked: dict[int, str] = {}

                async def work() -> None:
                    for number in range(400):
                        lease = (await stream.leased(number + 1))[number]
                        acks = [Ack(lease_token=lease.lease_token)]
                        asked[await stream.send(acks=acks, credits=1)] = lease.job.id

                working_on = asyncio.ensure_future(work())
                await stream.until(lambda: len(stream.results) > 100)
                broker.kill()
                with pytest.raises(
                    (grpc.aio.AioRpcError, asyncio.InvalidStateError, AssertionError)
                ):
                    await working_on
                acked |= {asked[n] for n, r in stream.results.items() if n in asked and r.acks}
        broker.start()
        async with calls_to(broker.address) as calls:
            again: list[str] = []
            async with working(calls, credits=500) as stream:

                async def all_back() -> bool:
                    now = await depth(calls)
                    return not now.ready and now.leased == len(stream.leases)

                await until(all_back, "what was leased is back")
                again = [lease.job.id for lease in stream.leases]
    assert not acked & set(again), "an acked job was given again"
    assert len(again) == len(set(again))
    assert set(again) <= pushed
    missing = pushed - set(again) - acked
    assert len(missing) <= len(asked) - len(acked), "neither acked nor given again"


async def test_who_opens_a_stream_and_says_nothing_takes_a_place_and_no_more(calls: Calls) -> None:
    silent = Works(calls)
    await push(calls, 1)
    assert await silent.finish() is grpc.StatusCode.OK
    await comes_to(calls, ready=1, leased=0)


async def test_a_drain_ends_who_has_opened_a_stream_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifetime, "CLOSING_GRACE", 0.1)
    async with served(FaultyDriver()) as (server, calls):
        silent = Works(calls)
        await silent.call.initial_metadata()
        async with asyncio.timeout(20):
            await server.drain(60 * SECOND)
        assert await silent.ended() is grpc.StatusCode.UNAVAILABLE


async def test_who_speaks_first_when_the_broker_drains_is_told_that_it_closes() -> None:
    async with served(FaultyDriver()) as (server, calls):
        late = Works(calls)
        await late.call.initial_metadata()
        draining = asyncio.ensure_future(server.drain(30 * SECOND))

        async def drains() -> bool:
            return server._streams._draining

        await until(drains, "the broker drains")
        await late.open("q", credits=1)
        await late.until(lambda: late.closing)
        assert await late.finish() is grpc.StatusCode.OK
        await draining
