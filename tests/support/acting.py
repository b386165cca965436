"""Whoever makes a call, in tests without a server."""

from collections.abc import Iterator
from contextlib import contextmanager

from towline_broker.domain.identity import Identity, act_as, current_identity


@contextmanager
def acting_as(identity: Identity) -> Iterator[None]:
    """Afterwards the call is that of who made it before: what is set in a test would hold in those
    that run behind it."""
    before = current_identity()
    act_as(identity)
    try:
        yield
    finally:
        act_as(before)
