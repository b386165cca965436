"""Calls that wait while credentials come and go: what the interceptor does to them."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import pytest

from towline_broker.domain.errors import Unauthenticated
from towline_broker.domain.identity import FULL_RIGHTS, Identity, current_identity
from towline_broker.interceptors.authentication import PARKING, Authentication, Context, Credential
from towline_broker.interceptors.refusals import Refusals

CREDENTIAL = Credential(Identity("token:worker", FULL_RIGHTS), digest=b"x")


class Known:
    """Knows one credential, until it is revoked."""

    def __init__(self) -> None:
        self.good: Credential | None = CREDENTIAL

    async def by_token(self, _: str) -> Credential:
        return CREDENTIAL

    def by_certificate(self, _: Iterable[bytes]) -> Credential | None:
        return CREDENTIAL

    def by_now(self, _: Credential) -> Credential | None:
        return self.good


class KnownForAMoment(Known):
    """Knows one whose time is over in the moment in which somebody asks what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.credential = replace(CREDENTIAL, ends_at=time.time() + 0.05)

    async def by_token(self, _: str) -> Credential:
        return self.credential

    def by_now(self, credential: Credential) -> Credential | None:
        while credential.ends_at is not None and time.time() < credential.ends_at:
            time.sleep(0.001)
        return None


class FakeContext:
    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", "bearer x"),)

    def peer(self) -> str:
        return "peer"


async def test_a_call_that_takes_its_time_to_end_is_ended_once() -> None:
    known, handed_back = Known(), asyncio.Event()
    authentication = Authentication(known, Refusals())
    parked = asyncio.Event()

    async def wait(_: Any, __: Any) -> None:
        assert current_identity().name == "token:worker"
        parked.set()
        try:
            await asyncio.Event().wait()
        finally:
            await handed_back.wait()

    handler = authentication.wrap(PARKING[0], wait)
    call = asyncio.ensure_future(handler(None, cast(Context, FakeContext())))
    await parked.wait()
    authentication.end_changed()
    await asyncio.sleep(0)
    assert not call.done()
    known.good = None
    for _ in range(3):
        authentication.end_changed()
        await asyncio.sleep(0.01)
    assert not call.done()
    handed_back.set()
    with pytest.raises(Unauthenticated, match="revoked while the call waited"):
        await call
    assert current_identity().name == "anonymous"


async def test_a_call_whose_token_runs_out_is_left_to_answer() -> None:
    authentication = Authentication(KnownForAMoment(), Refusals())
    parked, answered = asyncio.Event(), asyncio.Event()

    async def wait(_: Any, __: Any) -> str:
        parked.set()
        await answered.wait()
        return "nothing"

    handler = authentication.wrap(PARKING[0], wait)
    call = asyncio.ensure_future(handler(None, cast(Context, FakeContext())))
    await parked.wait()
    authentication.end_changed()
    await asyncio.sleep(0.01)
    answered.set()
    assert await call == "nothing"


async def test_a_client_that_goes_is_no_refusal() -> None:
    refusals = Refusals()
    authentication = Authentication(Known(), refusals)

    async def wait(_: Any, __: Any) -> None:
        await asyncio.Event().wait()

    handler = authentication.wrap(PARKING[0], wait)
    call = asyncio.ensure_future(handler(None, cast(Context, FakeContext())))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not refusals.counts


async def test_a_time_out_of_the_call_itself_is_told_as_it_is() -> None:
    async def fail(_: Any, __: Any) -> None:
        raise TimeoutError("of a store")

    handler = Authentication(Known(), Refusals()).wrap(PARKING[0], fail)
    with pytest.raises(TimeoutError, match="of a store"):
        await handler(None, cast(Context, FakeContext()))
