"""One identity cannot take the broker away from the others: what each has under way is bounded."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from towline_broker.domain.answers import hear_of_answer
from towline_broker.domain.errors import Full
from towline_broker.domain.identity import current_identity
from towline_broker.domain.time import SECOND, Micros, from_seconds
from towline_broker.interceptors.authentication import PARKING
from towline_broker.interceptors.subjects import SETTLING
from towline_broker.interceptors.unread import OVERHEAD, Answer, Unread
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.streaming import STREAMS, stream_scope

#: Whoever works off jobs is to be heard when nothing more goes in: so much more may be under way
#: that settles leases.
RESERVED = 1.25
#: What has changed nothing can still be refused when its answer is there.
READING = frozenset(
    {
        "/towline.v1.QueueService/GetJob",
        "/towline.v1.QueueService/ListJobs",
        "/towline.v1.DeadLetterService/ListDead",
        "/towline.v1.AdminService/Stats",
        "/towline.v1.AdminService/ListQueues",
        "/towline.v1.AdminService/ListWorkers",
    }
)
#: Identities that are remembered while they have nothing under way.
MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of one identity; 0: no limit."""

    calls_per_second: float = 0
    bytes_in_flight: int = 0
    waiters: int = 0
    answer_bytes: int = 0


class OverAllowance(Full):
    """``reason``: IDENTITY_RATE, IDENTITY_BYTES or IDENTITY_WAITERS."""

    def __init__(self, reason: str, identity: str, what: str, retry_after: Micros) -> None:
        super().__init__(
            f"identity:{identity}",
            f"{identity} {what}, which is its limit: an operator can raise it under 'guards'",
            retry_after,
        )
        self.reason = reason


class Account:
    """What one identity has under way."""

    __slots__ = (
        "_allowance",
        "_at",
        "_bytes",
        "_calls",
        "_identity",
        "_tokens",
        "_waiters",
        "unread",
    )

    def __init__(self, identity: str, allowance: Allowance) -> None:
        self._identity = identity
        self._calls = 0
        self._bytes = 0
        self._waiters = 0
        self._at = 0.0
        self._tokens = 0.0
        self.unread = Unread(self._too_much_unread)
        self.allow(allowance)

    @property
    def idle(self) -> bool:
        return not self._calls and not self.unread

    def allow(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._tokens = max(1.0, allowance.calls_per_second)
        self.unread.most = allowance.answer_bytes

    def begin(self, size: int, *, parks: bool, settles: bool, now: float) -> None:
        """``now`` in seconds. Raises OverAllowance."""
        self.unread.check()
        allowance = self._allowance
        if allowance.bytes_in_flight:
            self._check_bytes(size, settles=settles)
        if parks and allowance.waiters and self._waiters >= allowance.waiters:
            raise self._over("IDENTITY_WAITERS", f"has {self._waiters} calls waiting")
        if allowance.calls_per_second and not settles:
            self._take_token(allowance.calls_per_second, now)
        self._calls += 1
        self._bytes += size
        self._waiters += parks

    def end(self, size: int, *, parks: bool) -> None:
        self._calls -= 1
        self._bytes -= size
        self._waiters -= parks

    def take_in(self, size: int, *, settles: bool) -> None:
        """Of a message of a stream: until :meth:`let_go`. Raises OverAllowance; it is under way all
        the same, for it has to be answered."""
        self._bytes += size
        self.unread.check()
        self._check_bytes(0, settles=settles, own=size)

    def let_go(self, size: int) -> None:
        self._bytes -= size

    def count_call(self, loop: asyncio.AbstractEventLoop) -> None:
        """What would be a call of its own. Raises OverAllowance."""
        if self._allowance.calls_per_second:
            self._take_token(self._allowance.calls_per_second, loop.time())

    def _check_bytes(self, size: int, *, settles: bool, own: int = 0) -> None:
        """A single request is taken whatever its size: otherwise it could never come in."""
        most, others = self._allowance.bytes_in_flight, self._bytes - own
        if most and others and self._bytes + size > most * (RESERVED if settles else 1):
            raise self._over("IDENTITY_BYTES", f"has {others} bytes of requests under way")

    def _take_token(self, rate: float, now: float) -> None:
        """A token bucket that holds those of a second."""
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1:
            wait = from_seconds((1 - self._tokens) / rate)
            raise self._over("IDENTITY_RATE", f"makes {rate:g} calls a second", wait)
        self._tokens -= 1

    def _too_much_unread(self, size: int) -> OverAllowance:
        return self._over("IDENTITY_BYTES", f"has {size} bytes of answers that it does not read")

    def _over(self, reason: str, what: str, wait: Micros = 1 * SECOND) -> OverAllowance:
        return OverAllowance(reason, self._identity, what, wait)


class AccountGate:
    """The messages of a stream on the account of its identity."""

    __slots__ = ("_account", "_loop")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._loop = asyncio.get_running_loop()

    def message(self, size: int, *, settles: bool) -> None:
        self._account.take_in(size, settles=settles)

    def call(self) -> None:
        self._account.count_call(self._loop)

    def answered(self, size: int) -> None:
        self._account.let_go(size)

    def writes(self, size: int) -> None:
        self._account.unread.add(size)


class Guards(WrappingInterceptor):
    """Stands where it is known who calls, and a request is bytes still. Raises OverAllowance."""

    def __init__(self, allowance_of: Callable[[str], Allowance]) -> None:
        self._allowance_of = allowance_of
        self._accounts: OrderedDict[str, Account] = OrderedDict()

    def replace(self, allowance_of: Callable[[str], Allowance]) -> None:
        """What is under way goes on, and counts."""
        self._allowance_of = allowance_of
        for identity, account in self._accounts.items():
            account.allow(allowance_of(identity))

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        parks, settles, reads = method in PARKING, method in SETTLING, method in READING

        if method in STREAMS:
            return self._wrap_stream(behaviour)

        async def guarded(raw: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            account, size = self._account_of(current_identity().name), len(raw)
            account.begin(size, parks=parks, settles=settles, now=time.monotonic())
            try:
                # A handler always runs in a task.
                task: Any = asyncio.current_task()
                answer = Answer(account.unread, task)
                hear_of_answer(answer.grow)
                reply = await behaviour(raw, context)
                if isinstance(reply, bytes):  # else its handler has written it
                    if reads:
                        answer.grow_to(len(reply) + OVERHEAD)
                    # gRPC keeps the request until the answer is on the wire.
                    answer.come_to(len(reply) + size + OVERHEAD)
                return reply
            finally:
                account.end(size, parks=parks)

        return guarded

    def _wrap_stream(self, behaviour: Behaviour) -> Behaviour:
        """It takes up a place among the identity's calls that wait, and its messages count as they
        come."""

        async def guarded(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            account = self._account_of(current_identity().name)
            now = asyncio.get_running_loop().time()
            account.begin(0, parks=True, settles=False, now=now)
            try:
                stream_scope().gate = AccountGate(account)
                return await behaviour(requests, context)
            finally:
                account.end(0, parks=True)

        return guarded

    def _account_of(self, identity: str) -> Account:
        account = self._accounts.get(identity)
        if account is None:
            account = self._accounts[identity] = Account(identity, self._allowance_of(identity))
            if len(self._accounts) > MOST_REMEMBERED:
                self._forget_one()
        return account

    def _forget_one(self) -> None:
        """The first that has nothing under way, of those that were first seen longest ago."""
        for identity, account in self._accounts.items():
            if account.idle:
                del self._accounts[identity]
                return
