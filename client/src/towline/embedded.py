"""``memory://``: a whole broker inside this process, for tests and for trying things out.

    client = Client("memory://")                  # or "memory://name": another broker
    Worker("memory://", ["emails"]).start()       # the same one, by the same address

It comes with the package towline-broker, which this one knows nothing of: it is found by its entry
point. It starts when a client or worker makes its first call, on a free port of loopback, and ends
with the process; what it holds is in memory only. In a process that was forked off, an address
that was used before leads to the broker of the parent.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import entry_points
from typing import Any, NamedTuple, Protocol, cast

import grpc
import grpc.aio

from towline.channel import Connection, check_timeout
from towline.errors import ConfigurationError
from towline.forks import in_forked_children
from towline.transport.bridge import BridgedChannel

SCHEME = "memory://"

ENTRY_POINTS = "towline.brokers"
"""The group in which a package names what makes an EmbeddedBroker; the entry point is "memory"."""

_NAME = re.compile(r"[A-Za-z0-9._-]*")


class EmbeddedBroker(Protocol):
    """What the entry point makes, without arguments: a broker that serves. Safe from any thread."""

    @property
    def address(self) -> str:
        """host:port."""

    def now(self) -> datetime:
        """The time on its clock, in UTC."""

    def travel(self, by: timedelta) -> None:
        """Set its clock forward, and do at once what has fallen due by then."""

    def pushed(self) -> Sequence[tuple[bytes, datetime]]:
        """Every job stored since ``reset``, as a serialized Job of the contract, and when."""

    def reset(self) -> None:
        """Forget everything, and begin to note what is pushed."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class EmbeddedConnection(Connection):
    """A connection to the broker of a name, which is started when a channel is opened."""

    name: str = ""

    @classmethod
    def of(
        cls, address: str, *, credentials: object, timeout: float, token: object = None
    ) -> EmbeddedConnection:
        """Return the connection for ``memory://name``. Raises ConfigurationError."""
        name = address.removeprefix(SCHEME)
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                "address: expected memory:// or memory://name, the name of letters, digits and "
                f". _ -, got {address!r}"
            )
        if credentials is not None:
            raise ConfigurationError("credentials: a broker at memory:// has no use for any")
        if token is not None:
            raise ConfigurationError("token: a broker at memory:// has no use for any")
        return cls(address, None, check_timeout(timeout), name=name)

    @property
    def in_this_process(self) -> bool:
        return True

    def open(self) -> grpc.Channel:
        return grpc.intercept_channel(self._real().open(), _NoDeadlines())

    def open_aio(self) -> grpc.aio.Channel:
        # The loop of the broker is to be the only one of grpc.aio in this process.
        return cast(grpc.aio.Channel, BridgedChannel(self.open()))

    def hand_over(self) -> dict[str, Any]:
        return self._real().hand_over()

    def _real(self) -> Connection:
        return Connection(embedded_broker(self.name).address, None, self.timeout)


class _CallDetails(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _NoDeadlines(grpc.UnaryUnaryClientInterceptor):
    """Has a broker answer when it will, as a function would that is called.

    grpc reckons deadlines by time.time(). A test that has that set back (freezegun, time-machine)
    would have each of its calls fail at once.
    """

    def intercept_unary_unary(self, call: Any, details: Any, request: Any) -> Any:
        given: dict[str, Any] = {
            name: getattr(details, name, None) for name in _CallDetails._fields
        }
        return call(_CallDetails(**{**given, "timeout": None}), request)


class _Running:
    """The brokers of this process, by name. They end with it: to close them just before would only
    make clients complain that still try."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._brokers: dict[str, EmbeddedBroker] = {}

    def get(self, name: str) -> EmbeddedBroker:
        with self._lock:
            if name not in self._brokers:
                self._brokers[name] = start_broker()
            return self._brokers[name]

    def after_fork(self) -> None:
        # The brokers live on in the parent, where they can be reached; this lock could be held.
        self._lock = threading.Lock()


_running = _Running()
in_forked_children(_running.after_fork)


def embedded_broker(name: str = "") -> EmbeddedBroker:
    """Return the broker of ``memory://name``, started if need be. Raises ConfigurationError."""
    return _running.get(name)


def start_broker() -> EmbeddedBroker:
    """Start a broker that no address leads to; whoever calls closes it.

    Raises ConfigurationError when no package offers one.
    """
    found = tuple(entry_points(group=ENTRY_POINTS, name="memory"))
    if not found:
        raise ConfigurationError(
            "memory:// needs the broker, which is a package of its own and is not installed: "
            "pip install towline-broker"
        )
    make: Callable[[], EmbeddedBroker] = found[0].load()
    return make()
