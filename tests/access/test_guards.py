"""No identity can take the broker away from the others."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.access.senders import Sender, Tokens
from tests.support.calls import calls_to, failure_of
from tests.support.waiting import until
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job
from towline_broker.interceptors.guarding import Account, Allowance, OverAllowance
from towline_broker.server.configuration.guard_settings import GuardSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker

EVERYTHING: Any = {"push": ["*"], "work": ["*"], "admin": ["*"]}
MIB = 1024 * 1024


def push(payload: int = 1, jobs: int = 1) -> pb.PushRequest:
    return pb.PushRequest(jobs=[Job(queue="q", type="T", payload=b"x" * payload)] * jobs)


def reserve(wait: float = 0) -> pb.ReserveRequest:
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name="q")])
    request.wait.FromMilliseconds(round(wait * 1000))
    return request


async def guarded(tokens: Tokens, use: Any, **guards: Any) -> None:
    everyone = {name: tokens.make(name, **EVERYTHING) for name in ("greedy", "other")}
    settings = Settings(
        store="memory:", listen="127.0.0.1:0", auth={"tokens": tokens.path}, guards=guards
    )
    async with (
        running_broker(settings) as server,
        calls_to(str(server.address)) as calls,
    ):
        await use(server, *(Sender(calls, token) for token in everyone.values()))


async def test_who_calls_too_often_is_told_when_to_come_again_and_others_are_served(
    tokens: Tokens,
) -> None:
    async def use(server: BrokerServer, greedy: Sender, other: Sender) -> None:
        for _ in range(2):
            await greedy.Push(push())
        failure = await failure_of(greedy.Push(push()))
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert failure.reason == "IDENTITY_RATE"
        assert "greedy makes 2 calls a second" in failure.message
        assert 0 < failure.retry_after <= 0.5
        await other.Push(push())
        await asyncio.sleep(failure.retry_after)
        await greedy.Push(push())

    await guarded(tokens, use, calls_per_second=2)


async def test_settling_is_never_refused_for_its_rate(tokens: Tokens) -> None:
    async def use(server: BrokerServer, greedy: Sender, other: Sender) -> None:
        await other.Push(push(jobs=5))
        request = reserve()
        request.max_jobs = 5
        leases = (await greedy.Reserve(request)).leases
        assert (await failure_of(greedy.Reserve(reserve()))).reason == "IDENTITY_RATE"
        for lease in leases:
            reply = await greedy.Ack(pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token)]))
            assert reply.results[0].outcome == pb.LEASE_OUTCOME_OK

    await guarded(tokens, use, identities={"token:greedy": {"calls_per_second": 1}})


async def test_who_waits_with_too_many_calls_leaves_room_for_others(tokens: Tokens) -> None:
    async def use(server: BrokerServer, greedy: Sender, other: Sender) -> None:
        waiting = [asyncio.ensure_future(greedy.Reserve(reserve(wait=30))) for _ in range(3)]

        async def parked() -> bool:
            return server.broker.observing.parked == 3

        await until(parked, "three calls wait")
        failure = await failure_of(greedy.Reserve(reserve()))
        assert failure.reason == "IDENTITY_WAITERS"
        served = asyncio.ensure_future(other.Reserve(reserve(wait=30)))
        await other.Push(push(jobs=4))
        replies = await asyncio.gather(*waiting, served)
        assert [len(reply.leases) for reply in replies] == [1, 1, 1, 1]

    await guarded(tokens, use, waiters=3)


async def test_other_limits_hold_for_whoever_fits_a_pattern() -> None:
    guards = GuardSettings.model_validate(
        {
            "waiters": 10,
            "answer_bytes": "64MiB",
            "identities": {
                "*": {"calls_per_second": 1},
                "ci-*": {"waiters": 2, "answer_bytes": "256MiB"},
                "ci-main": {"bytes_in_flight": "1MiB"},
            },
        }
    )
    assert guards.allowance_of("ci-main") == Allowance(1, 1 * MIB, 2, 256 * MIB)
    assert guards.allowance_of("ci-3") == Allowance(1, 256 * MIB, 2, 256 * MIB)
    assert guards.allowance_of("shop") == Allowance(1, 256 * MIB, 10, 64 * MIB)


async def test_new_limits_hold_from_the_moment_at_which_settings_are_reread(
    tokens: Tokens,
) -> None:
    async def use(server: BrokerServer, greedy: Sender, other: Sender) -> None:
        for _ in range(3):
            await greedy.Push(push())
        guards = GuardSettings(identities={"token:greedy": {"calls_per_second": 0.001}})
        server.reload(server.settings.model_copy(update={"guards": guards}))
        await greedy.Push(push())
        assert (await failure_of(greedy.Push(push()))).reason == "IDENTITY_RATE"

    await guarded(tokens, use)


class TestAccount:
    """What one identity has under way."""

    def begin(self, account: Account, size: int = 1, now: float = 0, **what: bool) -> None:
        account.begin(size, **{"parks": False, "settles": False, **what}, now=now)

    def test_bytes_under_way_are_bounded_and_settling_keeps_a_share(self) -> None:
        account = Account("a", Allowance(bytes_in_flight=100))
        self.begin(account, 90)
        with pytest.raises(OverAllowance, match="90 bytes"):
            self.begin(account, 20)
        self.begin(account, 35, settles=True)
        with pytest.raises(OverAllowance):
            self.begin(account, 1, settles=True)
        account.end(90, parks=False)
        self.begin(account, 60)

    def test_a_request_that_is_larger_than_the_limit_comes_in_alone(self) -> None:
        account = Account("a", Allowance(bytes_in_flight=100))
        self.begin(account, 500)
        with pytest.raises(OverAllowance):
            self.begin(account, 1)
        account.end(500, parks=False)
        assert account.idle

    def test_those_of_a_second_may_come_at_once_and_then_one_after_the_other(self) -> None:
        account = Account("a", Allowance(calls_per_second=4))
        for _ in range(4):
            self.begin(account, now=100)
        with pytest.raises(OverAllowance) as refused:
            self.begin(account, now=100)
        assert refused.value.retry_after == 250_000
        self.begin(account, now=100.25)
        with pytest.raises(OverAllowance):
            self.begin(account, now=100.26)

    def test_what_was_refused_is_not_under_way(self) -> None:
        account = Account("a", Allowance(waiters=1))
        self.begin(account, parks=True)
        with pytest.raises(OverAllowance):
            self.begin(account, parks=True)
        account.end(1, parks=True)
        assert account.idle
        self.begin(account, parks=True)
