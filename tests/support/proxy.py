"""A network that fails as it is told: a TCP proxy between any two parts, in a process of its own.

::

    with Proxy(broker.address, seed=7) as proxy:
        client = connect(proxy.address)
        proxy.fail(Delay(Way.REPLY, 0.1, 0.3))    # from now on, also on open connections
        proxy.heal()

A request is what goes from the side that connects to the side that listens, a reply what comes
back. Whatever is random comes from the seed, drawn for each connection and way apart.
"""

import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import ClassVar, Self, TypeAlias
from urllib.parse import urlsplit

STOP_SECONDS = 10.0


class Way(StrEnum):
    REQUEST = "request"
    REPLY = "reply"


class End(StrEnum):
    """How both sides see a connection end that is cut."""

    #: As after a crash (RST).
    RESET = "reset"
    #: As if the other side had closed it (FIN).
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Cut:
    """Each connection ends once so many more bytes have passed (at random in between the bounds).
    What comes behind them never arrives."""

    kind: ClassVar[str] = "cut"
    way: Way
    least: int
    most: int
    end: End = End.RESET


@dataclass(frozen=True, slots=True)
class LoseReplies:
    """Requests arrive and their replies do not: these are thrown away. The connection ends when
    ``least`` bytes of them were, and no more has come for ``quiet`` seconds."""

    kind: ClassVar[str] = "lose-replies"
    least: int = 0
    quiet: float = 0.02
    end: End = End.RESET


@dataclass(frozen=True, slots=True)
class CutAt:
    """One connection ends: the next on which a request has these characters in it. It does not
    arrive, or (``done``) it does and its reply does not. Then the fault is over."""

    kind: ClassVar[str] = "cut-at"
    mark: str
    done: bool
    end: End = End.RESET


@dataclass(frozen=True, slots=True)
class Delay:
    """Whatever was sent is on its way for so many seconds, and what comes meanwhile waits behind
    it."""

    kind: ClassVar[str] = "delay"
    way: Way
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Halve:
    """Of what was sent at once, by so much chance, only the first half arrives in time. The rest
    follows after ``stall`` seconds, or never: None cuts the connection."""

    kind: ClassVar[str] = "halve"
    way: Way
    chance: float
    stall: float | None


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing arrives until this is over, not even that a connection has ended; then all does."""

    kind: ClassVar[str] = "hold"
    way: Way


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody listens: no new connection is made."""

    kind: ClassVar[str] = "refuse"


Fault: TypeAlias = Cut | LoseReplies | CutAt | Delay | Halve | Hold | Refuse

KINDS: dict[str, type[Fault]] = {
    each.kind: each for each in (Cut, LoseReplies, CutAt, Delay, Halve, Hold, Refuse)
}

BLACK_HOLE = (Hold(Way.REQUEST), Hold(Way.REPLY))


@dataclass(frozen=True, slots=True)
class Figures:
    """Since the start."""

    #: Made by way of the proxy.
    connections: int
    #: Ended by the proxy, of whatever fault.
    cuts: int
    #: Bytes that arrived, by way.
    requests: int
    replies: int
    #: Bytes that were thrown away.
    lost: int


class Proxy:
    """Runs while the context lasts."""

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        """``upstream``: host:port of the side that listens."""
        self._upstream = upstream
        self._seed = seed
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self.address = ""

    @classmethod
    def to_store(cls, url: str, *, seed: int = 0) -> Self:
        """Between a broker and the server that the url names."""
        return cls(urlsplit(url).netloc.rpartition("@")[2], seed=seed)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.proxy_process", self._upstream, str(self._seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            try:
                # It ends when its standard input does.
                process.communicate(timeout=STOP_SECONDS)
            finally:
                process.kill()
                process.wait()

    def behind(self, url: str) -> str:
        """The same store by way of the proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{self.address}").geturl()

    def fail(self, *faults: Fault) -> None:
        """In place of the faults that were; in force when this returns."""
        self._tell("fail", [{"kind": fault.kind, **asdict(fault)} for fault in faults])

    def heal(self) -> None:
        self.fail()

    def cut_all(self, end: End = End.RESET) -> None:
        """Every connection that is open ends now."""
        self._tell("cut", end)

    def figures(self) -> Figures:
        return Figures(**self._tell("figures"))

    def _tell(self, *command: object) -> dict[str, int]:
        process = self._process
        assert process is not None, "the proxy does not run"
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()
            answer: dict[str, int] = json.loads(process.stdout.readline())
        return answer
