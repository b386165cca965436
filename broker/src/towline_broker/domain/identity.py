"""Who calls, and what they may do.

A right is given for queues, by name or by a pattern in which ``*`` stands for any text, also for
none. The interceptors find out who calls; rooms further in ask :func:`current_identity`.
"""

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Self, TypeAlias

from towline_broker.domain.errors import PermissionDenied
from towline_broker.domain.names import fits

#: Longer names are no queue's.
MOST_NAME = 128
#: Names of which each set of patterns remembers whether it fits.
MOST_KNOWN = 1_000
MARK_BYTES = 9

#: Tells of a queue whether it is in sight of a caller. None: every queue is.
Sight: TypeAlias = Callable[[str], bool] | None


class Right(StrEnum):
    #: Push jobs, follow and cancel them.
    PUSH = "push"
    #: Reserve jobs, and settle what one holds.
    WORK = "work"
    #: Look at all that is in a queue, and decide about it: pause, purge, move, dead letters.
    ADMIN = "admin"


class Patterns:
    """Names of queues and patterns of them."""

    __slots__ = ("_every", "_known", "_patterns")

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        self._patterns = tuple(patterns)
        self._every = "*" in self._patterns
        self._known: dict[str, bool] = {}

    @property
    def every(self) -> bool:
        """Whether every name fits, whatever it is."""
        return self._every

    def fit(self, name: str) -> bool:
        if self._every:
            return True
        known = self._known.get(name)
        if known is None:
            known = any(fits(pattern, name) for pattern in self._patterns)
            if len(self._known) < MOST_KNOWN and len(name) <= MOST_NAME:
                self._known[name] = known
        return known

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def __iter__(self) -> Iterator[str]:
        return iter(self._patterns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patterns) and self._patterns == other._patterns

    def __hash__(self) -> int:
        return hash(self._patterns)

    def __repr__(self) -> str:
        return f"Patterns({list(self._patterns)})"


@dataclass(frozen=True, slots=True)
class Rights:
    """The fields are called as the values of :class:`Right` are."""

    push: Patterns
    work: Patterns
    admin: Patterns

    @classmethod
    def of(
        cls, *, push: Iterable[str] = (), work: Iterable[str] = (), admin: Iterable[str] = ()
    ) -> Self:
        """From names of queues and patterns of them."""
        return cls(Patterns(push), Patterns(work), Patterns(admin))

    def queues(self, right: Right) -> Patterns:
        """Those for which the right is given."""
        patterns: Patterns = getattr(self, right)
        return patterns


FULL_RIGHTS = Rights.of(push="*", work="*", admin="*")


@dataclass(frozen=True, slots=True)
class Identity:
    """``name``: with the kind of its credentials in front, such as ``token:mailer``: a token and a
    certificate that happen to be called the same are two."""

    name: str
    rights: Rights
    #: What its leases are marked with. Of 72 bits, and of the name alone: whoever has new
    #: credentials of the same name holds the same leases.
    mark: str = field(init=False)

    def __post_init__(self) -> None:
        digest = sha256(f"towline lease holder {self.name}".encode()).digest()
        object.__setattr__(self, "mark", urlsafe_b64encode(digest[:MARK_BYTES]).decode("ascii"))

    def may(self, queue: str, *rights: Right) -> bool:
        """Whether it has any of the rights for this queue."""
        for right in rights:  # noqa: SIM110 -- each call and item asks, and a generator is dear
            if self.rights.queues(right).fit(queue):
                return True
        return False

    def may_everywhere(self, *rights: Right) -> bool:
        """Whether it has one of the rights for every queue."""
        for right in rights:  # noqa: SIM110 -- as in may
            if self.rights.queues(right).every:
                return True
        return False

    def may_somewhere(self, *rights: Right) -> bool:
        """Whether it has any of the rights for any queue."""
        return any(self.rights.queues(right) for right in rights)

    def require(self, queue: str, *rights: Right) -> None:
        """Raises PermissionDenied unless it has any of the rights for this queue."""
        if not self.may(queue, *rights):
            raise self._denied(f"for queue {_quoted(queue)}", rights, queue[:MOST_NAME])

    def require_everywhere(self, *rights: Right) -> None:
        """Raises PermissionDenied unless it has one of the rights for every queue."""
        if not self.may_everywhere(*rights):
            raise self._denied("for every queue ('*'); or name one for which it is given", rights)

    def require_somewhere(self, *rights: Right) -> None:
        """Raises PermissionDenied unless it has any of the rights for any queue."""
        if not self.may_somewhere(*rights):
            raise self._denied("for any queue", rights)

    def sight(self, *rights: Right) -> Sight:
        """The queues for which it has any of the rights."""
        if self.may_everywhere(*rights):
            return None
        return lambda queue: self.may(queue, *rights)

    def _denied(self, where: str, rights: tuple[Right, ...], queue: str = "") -> PermissionDenied:
        lacking = " or ".join(rights)
        return PermissionDenied(f"{self.name} lacks the right {lacking} {where}", lacking, queue)


def _quoted(name: str) -> str:
    return ascii(name) if len(name) <= MOST_NAME else f"{name[:MOST_NAME]!a}..."


@dataclass(frozen=True, slots=True)
class Anonymous(Identity):
    """Whoever calls a broker that asks nobody for credentials. Leases bear no mark."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "mark", "")


ANONYMOUS = Anonymous("anonymous", FULL_RIGHTS)

_current: ContextVar[Identity] = ContextVar("towline_identity", default=ANONYMOUS)


def current_identity() -> Identity:
    """Of whoever made the call that is being answered."""
    return _current.get()


#: Of the call that is being answered, if somebody wants to hear of them.
_refused_items: ContextVar[Callable[[PermissionDenied], None] | None] = ContextVar(
    "towline_refused_items", default=None
)


def refused_items() -> list[PermissionDenied]:
    """What is refused of the items of this call, from here on, while the others go through."""
    heard: list[PermissionDenied] = []
    hear_of_refused_items(heard.append)
    return heard


def hear_of_refused_items(hear: Callable[[PermissionDenied], None]) -> None:
    """The same, one by one: of a call that has no end yet."""
    _refused_items.set(hear)


def note_refused_item(error: PermissionDenied) -> None:
    """Has the refusal of one item counted and logged."""
    hear = _refused_items.get()
    if hear is not None:
        hear(error)


#: Of the credentials of the call that is being answered.
_ends_at: ContextVar[float | None] = ContextVar("towline_ends_at", default=None)


def act_as(identity: Identity, ends_at: float | None = None) -> None:
    """From here on, in this task, the call is this one's. ``ends_at``: when its credentials end, as
    Unix time in seconds."""
    _current.set(identity)
    if ends_at is not None:
        _ends_at.set(ends_at)


def credentials_end_at() -> float | None:
    """Of whoever made the call that is being answered: Unix time in seconds; None: never."""
    return _ends_at.get()
