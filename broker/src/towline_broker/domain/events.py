"""What a line of the log is about, for programs: the name of its event, and fields.

A name never changes its meaning; docs/logs.md lists them all. Fields hold names, ids and numbers:
no payload, no result, no token, and no url with a password.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_store: ContextVar[str] = ContextVar("towline_store", default="")


def event(name: str, **fields: object) -> dict[str, object]:
    """To be given to a logger as ``extra``."""
    return {"event": name, **fields}


@contextmanager
def about_store(name: str) -> Iterator[None]:
    """Lines logged by what runs or is started inside, tasks above all, are about this store: its
    driver does not know how it is called."""
    before = _store.set(name)
    try:
        yield
    finally:
        _store.reset(before)


def store_at_hand() -> str:
    """The store that lines are about here; empty if about none in particular."""
    return _store.get()
