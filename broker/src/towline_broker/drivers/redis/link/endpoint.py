"""Where a server is, and how a connection to it is made."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)

from towline_broker.drivers.redis.link.interface import Argument
from towline_broker.drivers.redis.link.sending import is_of_closed, send
from towline_broker.drivers.redis.link.url import Address

T = TypeVar("T")

#: Seconds that connecting may take at most.
_CONNECTING = 2.0
#: Of ``struct linger``: on, for no second.
_WITHOUT_LINGERING = struct.pack("ii", 1, 0)
_PLAIN = "the url asks for TLS (rediss…): does the server speak TLS at this port?"

#: What the server answers: integers, bytes, None, lists of these, or an error.
Reply: TypeAlias = Any
#: Errors that are answers to one request, although redis-py counts them with lost connections.
ErrorReply: TypeAlias = ResponseError | BusyLoadingError | AuthenticationError
ERROR_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError)


class Unreachable(Exception):
    """No connection could be made. Nothing was sent."""


class Unfit(Unreachable):
    """The server was reached, and waiting will not help: it does not let us in, or is no server of
    the kind that the url says."""


def hopeful(errors: Iterable[BaseException], otherwise: str) -> Unreachable:
    """Of what several servers said, that which waiting may cure, if there is such."""
    unfit: Unfit | None = None
    for error in errors:
        if isinstance(error, Unfit):
            unfit = error
        elif isinstance(error, Unreachable):
            return error
    return unfit or Unreachable(otherwise)


async def shared(task: "asyncio.Task[T]", otherwise: str) -> T:
    """The result of a task that others wait for too. Raises Unreachable when it was cancelled."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        waiter = asyncio.current_task()
        if task.cancelled() and waiter is not None and not waiter.cancelling():
            raise Unreachable(otherwise) from None
        raise


def encode(command: Iterable[Argument]) -> bytes:
    """The command as it goes over the wire."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    pieces = [b"*%d\r\n" % len(parts)]
    for part in parts:
        pieces += (b"$%d\r\n" % len(part), part, b"\r\n")
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to connect to one server. Of its ``repr`` no password is part."""

    address: Address
    #: Seconds that an answer may take.
    timeout: float
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = None
    #: A change is answered when so many replicas have it.
    replicas: int = 0

    @property
    def patience(self) -> float:
        """Seconds that connecting may take: short enough to hear meanwhile of another master."""
        return min(_CONNECTING, self.timeout / 2)

    async def connect(self) -> "tuple[AbstractConnection, Greeting]":
        """A connection that has said who it is and repeats nothing by itself.

        Raises Unreachable, or Unfit if waiting will not help.
        """
        connection = self._connection()
        try:
            async with asyncio.timeout(self.patience):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
                return connection, await _greeting(connection)
        except BaseException as error:
            await discard(connection)
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, TimeoutError):
            why = f"{self.address}: no connection in {self.patience:g} s"
            # A server without TLS waits in silence for more of what it cannot read.
            return Unreachable(why if self.tls is None else f"{why}; {_PLAIN}")
        if isinstance(error, AuthenticationError):
            return Unfit(f"{self.address}: {self._not_let_in()} ({error})")
        if isinstance(error, ResponseError):
            return Unfit(f"{self.address}: {error}")
        if isinstance(error, RedisError | OSError) or is_of_closed(error):
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                return Unfit(f"{self.address}: {error}")
            hint = f"; {_PLAIN}" if "WRONG_VERSION_NUMBER" in str(error) else ""
            return Unreachable(f"{self.address}: {error}{hint}")
        return error

    def _not_let_in(self) -> str:
        if self.password is None:
            return "the server wants a password: write user:password@ before the host in the url"
        return "the server refuses the password: check user and password in the url"

    def _connection(self) -> AbstractConnection:
        options: dict[str, Any] = {
            "host": self.address.host,
            "port": self.address.port,
            "db": self.db,
            "username": self.user,
            "password": self.password,
            # Who waits, and how long, is decided here and not below.
            "socket_timeout": None,
            "socket_connect_timeout": self.patience,
            "socket_keepalive": True,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if self.tls is None:
            return Connection(**options)
        connection = SSLConnection(**options)
        connection.ssl_context.context = self.tls
        return connection


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says of itself to everybody who may log in."""

    product: str
    version: str
    #: "standalone", "sentinel" or "cluster".
    mode: str
    #: "master", "replica" or "sentinel".
    role: str


async def _greeting(connection: AbstractConnection) -> Greeting:
    """Nothing is known of a server too old to be asked."""
    await connection.send_command("HELLO", check_health=False)
    try:
        said = pairs(await connection.read_response())
    except AuthenticationError:
        raise
    except ResponseError:
        said = {}
    names = ("server", "version", "mode", "role")
    return Greeting(*(said.get(name, "") for name in names))


def pairs(reply: Sequence[Reply]) -> dict[str, str]:
    """Names and values that follow each other; those that are text or numbers."""
    found = {}
    for name, value in zip(reply[::2], reply[1::2], strict=False):
        if isinstance(value, bytes):
            found[name.decode()] = value.decode(errors="replace")
        elif isinstance(value, int):
            found[name.decode()] = str(value)
    return found


async def ask_once(endpoint: Endpoint, command: Sequence[Argument]) -> Reply:
    """One question on a connection of its own; an error may be the answer. Raises Unreachable."""
    connection, _ = await endpoint.connect()
    try:
        async with asyncio.timeout(endpoint.timeout):
            await send(connection, encode(command))
            return await connection.read_response()
    except ERROR_REPLIES as error:
        return error
    except (RedisError, OSError) as error:
        raise Unreachable(f"{endpoint.address}: {error}") from None
    finally:
        await discard(connection)


def abandon(connection: AbstractConnection) -> None:
    """Ends it at once and takes back what has not arrived at the server.

    A socket that is merely closed goes on to bring what was written to it: after an outage the
    server would do what its caller has long been told is lost.
    """
    writer: asyncio.StreamWriter | None = connection._writer  # redis-py tells it nowhere else
    if writer is None or writer.is_closing():
        return
    own = writer.get_extra_info("socket")
    with suppress(OSError, ValueError, RuntimeError):  # of one that has ended by itself
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _WITHOUT_LINGERING)
    writer.transport.abort()


async def discard(connection: AbstractConnection) -> None:
    with suppress(RedisError, OSError, TimeoutError):
        await connection.disconnect(nowait=True)
