"""Streams that follow each other as one worker's, and the leases that were written to them."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from towline_broker.domain.jobs import Leased, LeaseRef

#: Leases that are remembered of one session: far more than a worker has under way.
MOST_UNSETTLED = 2_000
#: Leases of sessions whose stream is over, and that may be taken up again.
MOST_LEFT = 100_000


class SessionKey(NamedTuple):
    #: The mark of the identity: nobody takes up a session of another's.
    holder: str
    worker_id: str
    session_id: str


class Superseded(Protocol):
    def supersede(self) -> None:
        """Another stream has taken its place."""


class Session:
    """``unsettled``: leases that were written to its streams, in this order, as far as nobody has
    settled them over one of these."""

    __slots__ = ("key", "stream", "unsettled")

    def __init__(self, key: SessionKey | None) -> None:
        self.key = key
        self.stream: Superseded | None = None
        self.unsettled: dict[LeaseRef, None] = {}

    def written(self, leases: Iterable[Leased]) -> None:
        if self.key is not None:
            for leased in leases:
                self.unsettled[leased.ref] = None
            while len(self.unsettled) > MOST_UNSETTLED:  # those may have been settled elsewhere
                del self.unsettled[next(iter(self.unsettled))]

    def settled(self, refs: Iterable[LeaseRef]) -> None:
        if self.unsettled:
            for ref in refs:
                self.unsettled.pop(ref, None)


class Sessions:
    """Those of this broker. What is not remembered of one ends in its time."""

    def __init__(self) -> None:
        self._open: dict[SessionKey, Session] = {}
        #: With the number of leases that each counts for: some are settled after it was left.
        self._left: OrderedDict[SessionKey, tuple[Session, int]] = OrderedDict()
        self._leases_left = 0

    def take_up(
        self, key: SessionKey | None, stream: Superseded, held: Collection[LeaseRef]
    ) -> tuple[Session, list[LeaseRef]]:
        """The session, from here on this stream's; and the leases that its worker does not hold,
        though they were written to it. None: it is of no session."""
        if key is None:
            return Session(None), []
        session = self._open.get(key) or self._found_again(key) or Session(key)
        if session.stream is not None:
            session.stream.supersede()
        session.stream = stream
        self._open[key] = session
        lost = [ref for ref in session.unsettled if ref not in held]
        session.settled(lost)
        return session, lost

    def leave(self, session: Session, stream: Superseded) -> None:
        """The stream is over."""
        if session.key is None or session.stream is not stream:
            return
        session.stream = None
        del self._open[session.key]
        if session.unsettled:
            count = len(session.unsettled)
            self._left[session.key] = session, count
            self._leases_left += count
            while self._leases_left > MOST_LEFT:
                _, (_, forgotten) = self._left.popitem(last=False)
                self._leases_left -= forgotten

    def _found_again(self, key: SessionKey) -> Session | None:
        session, count = self._left.pop(key, (None, 0))
        self._leases_left -= count
        return session
