"""Lists that are answered page by page."""

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import TypeVar

from google.protobuf.message import Message

from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import JobPage

DEFAULT_PAGE = 100
_DIGEST = 16

Reply = TypeVar("Reply", bound=Message)


def to_token(cursor: str | None, where: str) -> str:
    """What the client sends for the next page, with the same filter (``where``) as now."""
    return "" if cursor is None else _digest(where, cursor) + cursor


def to_cursor(token: str, where: str) -> str | None:
    """Raises InvalidField for a token of another filter, or that was tampered with."""
    if not token:
        return None
    cursor = token[_DIGEST:]
    if token[:_DIGEST] != _digest(where, cursor):
        raise InvalidField(
            "page_token",
            "is not from a page of this list with this filter; leave it unset to start over",
        )
    return cursor


async def fitting_page(
    fetch: Callable[[int], Awaitable[JobPage]],
    build: Callable[[JobPage], Reply],
    limit: int,
    most_bytes: int,
) -> Reply:
    """The reply with as many jobs as fit into one message, up to ``limit``; at least one."""
    while True:
        reply = build(await fetch(limit))
        if limit == 1 or reply.ByteSize() <= most_bytes:
            return reply
        limit = max(1, limit // 4)


def _digest(where: str, cursor: str) -> str:
    # Against mistakes, not against forgers: they could only read what they may read anyway.
    return blake2b(f"{where}\n{cursor}".encode(), digest_size=_DIGEST // 2).hexdigest()
