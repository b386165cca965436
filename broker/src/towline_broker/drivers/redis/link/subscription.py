"""Hearing what is published on a channel."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from towline_broker.domain.events import event
from towline_broker.drivers.hearing import outage_of_news
from towline_broker.drivers.redis.link.endpoint import (
    ERROR_REPLIES,
    Endpoint,
    Reply,
    Unfit,
    Unreachable,
    discard,
    encode,
)
from towline_broker.drivers.redis.link.interface import OnGap, OnMessage
from towline_broker.drivers.redis.link.sending import send

log = logging.getLogger("towline.broker")

#: Seconds of silence after which the server is asked whether it is there, and given as much to
#: answer.
_SILENCE = 2.0
#: Seconds between attempts to subscribe, doubled from the first to the second bound.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_PING = encode(["PING"])


@dataclass(frozen=True, slots=True)
class Channel:
    name: bytes
    #: Where it can be heard now, the best place first.
    posts: Callable[[], Sequence[Endpoint]]
    #: Looks for such places anew; may raise Unreachable.
    refresh: Callable[[], Awaitable[None]]
    on_message: OnMessage
    #: It is heard again after an interruption.
    on_gap: OnGap


class Subscription:
    """One connection on which messages arrive; replaced when it is lost, or when its server is not
    among the right ones any more."""

    def __init__(self, channel: Channel, timeout: float) -> None:
        self._channel = channel
        self._silence = min(_SILENCE, timeout)
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._outage = outage_of_news()

    async def start(self) -> None:
        """Returns once messages are heard. Raises Unreachable, or Unfit where that is forbidden."""
        endpoint, self._connection = await self._subscribe()
        self._task = asyncio.create_task(self._run(endpoint, self._connection))

    def start_soon(self) -> None:
        """Subscribes as soon as that is possible, and then tells of a gap."""
        self._task = asyncio.create_task(self._again())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            await discard(self._connection)

    async def _run(self, endpoint: Endpoint, connection: AbstractConnection) -> None:
        await self._hear_out(endpoint, connection)
        await self._again()

    async def _again(self) -> None:
        while True:
            endpoint, self._connection = await self._resubscribe()
            self._outage.works()
            self._channel.on_gap()
            await self._hear_out(endpoint, self._connection)

    async def _hear_out(self, endpoint: Endpoint, connection: AbstractConnection) -> None:
        try:
            await self._listen(endpoint, connection)
        except (RedisError, OSError, Unreachable) as error:
            self._outage.failed(f"{endpoint.address}: {error}")
        await discard(connection)

    async def _listen(self, endpoint: Endpoint, connection: AbstractConnection) -> None:
        """Returns when there is a better place to listen."""
        loop = asyncio.get_running_loop()
        asked, look_at = False, 0.0
        while True:
            if loop.time() >= look_at:
                look_at = loop.time() + self._silence
                if endpoint not in self._channel.posts():
                    return
            reply = await self._next(connection)
            if reply is not None:
                asked = False
                self._heard(reply)
            elif asked:
                raise Unreachable(f"silent for {2 * self._silence:g} s")
            else:
                asked = True
                await send(connection, _PING)

    async def _next(self, connection: AbstractConnection) -> Reply:
        """None after a while of silence."""
        try:
            return await connection.read_response(timeout=self._silence, disconnect_on_error=False)
        except ERROR_REPLIES:
            # Busy or loading: but there.
            return [b"pong", b""]

    def _heard(self, reply: Reply) -> None:
        if reply[0] != b"message" or not reply[2]:
            return
        try:
            self._channel.on_message(reply[2])
        except Exception:
            log.exception("a message could not be understood", extra=event("message_unreadable"))

    async def _resubscribe(self) -> tuple[Endpoint, AbstractConnection]:
        pause = 0.0
        while True:
            await asyncio.sleep(pause)
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            try:
                await self._channel.refresh()
                return await self._subscribe()
            except Unreachable as error:
                log.debug("not subscribed yet: %s", error)

    async def _subscribe(self) -> tuple[Endpoint, AbstractConnection]:
        """At the first place where it works."""
        trouble = Unreachable("no server is known")
        for endpoint in self._channel.posts():
            try:
                return endpoint, await self._subscribed(endpoint)
            except Unreachable as error:
                trouble = error
        raise trouble

    async def _subscribed(self, endpoint: Endpoint) -> AbstractConnection:
        connection, _ = await endpoint.connect()
        try:
            async with asyncio.timeout(endpoint.timeout):
                request = encode(["SUBSCRIBE", self._channel.name])
                await send(connection, request)
                await connection.read_response()
        except BaseException as error:
            await discard(connection)
            if isinstance(error, ERROR_REPLIES):
                raise Unfit(f"{endpoint.address}: SUBSCRIBE: {error}") from None
            if isinstance(error, RedisError | OSError):
                raise Unreachable(f"{endpoint.address}: {error}") from None
            raise
        return connection
