"""The sessions of Work streams that a broker remembers."""

from typing import Any

import pytest

from towline_broker.services.streams import sessions
from towline_broker.services.streams.sessions import SessionKey, Sessions

KEY = SessionKey("holder", "worker", "session")


class Owner:
    def supersede(self) -> None:
        pass


class Lease:
    """As much of one as a session looks at."""

    def __init__(self, ref: str) -> None:
        self.ref: Any = ref


def test_what_is_settled_after_a_stream_was_left_is_counted_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sessions, "MOST_LEFT", 3)
    known, leases = Sessions(), [Lease(str(number)) for number in range(3)]
    for _ in range(5):
        owner = Owner()
        session, _ = known.take_up(KEY, owner, [])
        session.written(leases)  # type: ignore[arg-type]  # it asks for no more than a ref
        known.leave(session, owner)
        session.settled([each.ref for each in leases[:2]])
    _, lost = known.take_up(KEY, Owner(), [])
    assert lost == [leases[2].ref], "it was forgotten"
