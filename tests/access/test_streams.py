"""Streams last long: what their callers may, and how much, holds for each message of theirs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.access.callers import bearer
from tests.access.senders import Tokens
from tests.service.test_push_streams import reason
from tests.support.calls import Calls, calls_to
from tests.support.faulty_driver import FaultyDriver
from tests.support.streams import Pushes, Works, job, pushing
from tests.support.waiting import until
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.queue_service_pb2 import Ack, PushOutcome, PushRequest
from towline_broker.interceptors.refusals import Refused
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker
from towline_broker.services.streams import lifetime

Code = grpc.StatusCode
CREATED = PushOutcome.PUSH_OUTCOME_CREATED
EVERYTHING: Any = {"push": ["*"], "work": ["*"], "admin": ["*"]}


@asynccontextmanager
async def served(tokens: Tokens, **guards: Any) -> AsyncIterator[tuple[BrokerServer, Calls]]:
    settings = Settings(
        store="memory:", listen="127.0.0.1:0", auth={"tokens": tokens.path}, guards=guards
    )
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        yield server, calls


def by(token: str) -> dict[str, Any]:
    return {"metadata": bearer(token)}


async def test_streams_end_with_their_tokens_and_their_unwritten_leases_stay(
    tokens: Tokens,
) -> None:
    token, admin = tokens.make("mail", **EVERYTHING), tokens.make("admin", **EVERYTHING)
    async with served(tokens) as (server, calls):
        pushes, works = Pushes(calls, **by(token)), Works(calls, **by(token))
        await pushes.push(job("other"))
        await works.open("q", credits=5)
        tokens.revoke("mail")
        assert await pushes.ended() is await works.ended() is Code.UNAUTHENTICATED
        await calls.queue.Push(PushRequest(jobs=[job()]), **by(admin))
        stats = await calls.admin.Stats(StatsRequest(queues=["q"]), **by(admin))
        assert stats.total.depth.ready == 1
        assert server.broker.waiters.parked == 0


async def test_streams_are_opened_anew_when_the_rights_of_their_caller_change(
    tokens: Tokens,
) -> None:
    token = tokens.make("mail", push=["*"])
    async with served(tokens) as (_, calls):
        stream = Pushes(calls, **by(token))
        await stream.push(job("bills"))
        tokens.give("mail", push=["mail.*"])
        assert await stream.ended() is Code.UNAVAILABLE
        assert "CANNOT_VERIFY" in str(await stream.call.trailing_metadata())
        async with pushing(calls, **by(token)) as another:
            assert (await another.push(job("bills"))).error.code == 7
            assert (await another.push(job("mail.out"))).response.results[0].outcome == CREATED


async def test_a_stream_closes_before_the_token_runs_out(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "CLOSING_GRACE", 60.0)
    token = tokens.make("mail", lasts=60.5, push=["*"])
    async with served(tokens) as (_, calls), pushing(calls, **by(token)) as stream:
        await stream.until(lambda: stream.closing)
        assert (await stream.push(job())).response.results[0].outcome == CREATED
        assert await stream.finish() is Code.OK


async def test_what_is_refused_in_a_stream_is_counted_while_it_goes_on(tokens: Tokens) -> None:
    token = tokens.make("mail", push=["mail.*"], work=["mail.*"])
    async with served(tokens) as (server, calls), pushing(calls, **by(token)) as stream:
        refused = await stream.push(job("bills"))
        assert (refused.error.code, reason(refused.error)) == (7, "PERMISSION_DENIED")
        assert "bills" in refused.error.message
        part = await stream.push(job("bills"), job("mail.out"), partial=True)
        assert [each.error.code for each in part.response.results] == [7, 0]
        counts = server.access.refusals.counts
        name = "/towline.v1.QueueService/PushStream"
        assert counts[Refused(name, "token:mail", "PERMISSION_DENIED")] == 2


async def test_an_ack_that_is_refused_in_a_stream_is_counted_once(tokens: Tokens) -> None:
    token = tokens.make("mail", push=["mail.*"], work=["mail.*"])
    async with served(tokens) as (server, calls):
        stream = Works(calls, **by(token))
        await stream.open("mail.out")
        elsewhere = f"bills/{uuid7()}/aaaaaaaaaaaa"
        settled = await stream.ask(acks=[Ack(lease_token=elsewhere)])
        assert [each.error.code for each in settled.acks] == [7]
        counts = server.access.refusals.counts
        name = "/towline.v1.QueueService/Work"
        assert counts[Refused(name, "token:mail", "PERMISSION_DENIED")] == 1
        await stream.finish()


async def test_each_push_counts_as_a_call_of_its_identity(tokens: Tokens) -> None:
    greedy, other = tokens.make("greedy", **EVERYTHING), tokens.make("other", **EVERYTHING)
    async with (
        served(tokens, identities={"token:greedy": {"calls_per_second": 3}}) as (_, calls),
        pushing(calls, **by(greedy)) as stream,
        pushing(calls, **by(other)) as free,
    ):
        numbers = await stream.send_all([PushRequest(jobs=[job()]) for _ in range(20)])
        answers = [await stream.answer(each) for each in numbers]
        over = [each.error for each in answers if each.HasField("error")]
        assert 17 <= len(over) <= 18  # to open the stream was one, if that is not a while ago
        assert {reason(error) for error in over} == {"IDENTITY_RATE"}
        for _ in range(20):
            assert (await free.push(job())).response.results[0].outcome == CREATED


async def test_streams_are_among_the_calls_with_which_an_identity_waits(tokens: Tokens) -> None:
    token = tokens.make("greedy", **EVERYTHING)
    async with served(tokens, waiters=2) as (_, calls):
        open_ = [Pushes(calls, **by(token)), Works(calls, **by(token))]
        for each in open_:
            await each.call.initial_metadata()
        assert await Pushes(calls, **by(token)).ended() is Code.RESOURCE_EXHAUSTED
        for each in open_:
            await each.abandon()

        async def free() -> bool:
            stream = Pushes(calls, **by(token))
            await stream.call.initial_metadata()
            return not stream.call.done()

        await until(free, "there is a place again")


@asynccontextmanager
async def greedy(tokens: Tokens) -> AsyncIterator[tuple[FaultyDriver, Pushes, Works]]:
    """Two streams of an identity of which 100,000 bytes may be under way."""
    driver, token = FaultyDriver(), tokens.make("greedy", **EVERYTHING)
    settings = Settings(
        store="memory:",
        listen="127.0.0.1:0",
        auth={"tokens": tokens.path},
        guards={"bytes_in_flight": 100_000},
    )
    async with (
        running_broker(settings, driver=driver.driver) as server,
        calls_to(str(server.address)) as calls,
        pushing(calls, **by(token)) as stream,
    ):
        works = Works(calls, **by(token))
        yield driver, stream, works
        await works.abandon()


async def test_bytes_that_wait_for_their_answers_are_bounded_and_settling_keeps_a_share(
    tokens: Tokens,
) -> None:
    async with greedy(tokens) as (driver, stream, works):
        await stream.push(job())
        await works.open("q", credits=1)
        (lease,) = await works.leased(1)
        driver.hold("push")
        held = await stream.send(job(payload=b"x" * 99_000))
        await driver.reached["push"].wait()
        refused = await stream.push(job(payload=b"x" * 2_000))
        assert reason(refused.error) == "IDENTITY_BYTES"
        settled = await works.ask(acks=[Ack(lease_token=lease.lease_token)])
        assert settled.acks[0].outcome
        driver.let_go("push")
        assert (await stream.answer(held)).response.results[0].outcome == CREATED
        assert (await stream.push(job(payload=b"x" * 2_000))).response.results


async def test_credits_of_a_message_beyond_what_may_wait_count_all_the_same(
    tokens: Tokens,
) -> None:
    async with greedy(tokens) as (driver, stream, works):
        await works.open("q")
        driver.hold("push")
        held = await stream.send(job("other", payload=b"x" * 130_000))
        await driver.reached["push"].wait()
        assert reason((await works.ask(credits=1)).error) == "IDENTITY_BYTES"
        driver.let_go("push")
        assert (await stream.answer(held)).response.results[0].outcome == CREATED
        await stream.push(job())
        await works.leased(1)
