"""The seam between what is kept in Redis and the connections to it.

Above it stand the data model and its Lua scripts, below it connections, topologies and failures.
Every job of a queue lies in one *partition*; all keys of a partition begin with its prefix, such as
``towline:{7}:``, and so are always on one server. A standalone server and one behind Sentinel have
one partition, a Cluster has many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Protocol, TypeAlias

from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Durability

Argument: TypeAlias = bytes | str | int


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. ``KEYS[1]`` is the prefix of the partition's keys, ``ARGV`` the arguments.

    ``KEYS[2]`` is a key that must never exist: it makes a Cluster refuse the script while keys of
    the partition are on their way from one server to another.

    A script changes nothing before it has checked all that it will do, and says in its reply what
    it refused: an error reply is taken for a defect.

    At its ``maxmemory`` a server stops a script at the first command that may need memory, if the
    script has not changed anything before. One that has to work then too begins with a change that
    needs none, such as deleting ``KEYS[2]``.
    """

    #: As it appears in logs and errors.
    name: str
    text: str
    #: It may change something. A script that only reads is sent again after any lost connection.
    write: bool
    #: It may also be sent again when nobody knows whether it has run, because running twice comes
    #: to the same as running once, its reply included.
    repeatable: bool = False
    #: What the server knows it by.
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


@dataclass(frozen=True, slots=True)
class Call:
    script: Script
    partition: int
    args: Sequence[Argument] = ()


#: A payload that a script published on :attr:`Link.channel`.
OnMessage: TypeAlias = Callable[[bytes], None]
#: Messages may have been missed: the subscription was interrupted and stands again.
OnGap: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about the servers."""

    #: "Redis" or "Valkey".
    product: str
    version: tuple[int, int, int]
    #: "standalone", "sentinel" or "cluster".
    topology: str
    durability: Durability
    #: The durability in a sentence, for operators.
    note: str


class Link(Protocol):
    """Connections to one store. Used from one event loop, by many calls at the same time.

    What any method may raise: StoreUnavailable (of a write that is not repeatable: the effect is
    unknown), StoreFull (the server is at its ``maxmemory``; nothing was changed), and ScriptDefect
    (a script ended in an error).
    """

    #: Fixed when the store was made; known once it is open.
    partitions: int
    #: What scripts publish on: to be handed to them, since it depends on the url.
    channel: bytes
    #: Known once it is open.
    facts: Facts

    async def open(self, on_message: OnMessage, on_gap: OnGap) -> None:
        """Connects, checks the servers, makes the store if there is none, and subscribes.

        ``on_message`` is called, on the event loop, with each payload published from then on, also
        by this broker itself.

        Raises StoreRefused for a store that cannot be used, and StoreUnavailable if it cannot be
        reached now.
        """

    async def close(self) -> None:
        """Waits for the calls under way, then disconnects. Safe to call twice."""

    async def run(self, script: Script, partition: int, args: Sequence[Argument] = ()) -> Any:
        """The reply of the script: integers, bytes, None, and lists of these."""

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """The replies of calls made at the same time, in their order.

        Waits for all of them. If some fail, the first error is raised; the others have their
        effect.
        """

    async def time(self) -> Micros:
        """The clock of one server: always that of partition 0."""


class ScriptDefect(Exception):
    """A script ended in an error that is no state of the server. A defect of Towline."""
