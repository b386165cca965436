"""Lists that are answered page by page."""

from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol

from towline.v1.job_pb2 import JobInfo
from towline_broker.domain.answers import answer_grows
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import JobPage, JobRecord

DEFAULT_PAGE = 100
#: Jobs that are in memory at the same time beside those of the reply.
PORTION = 50
#: What one job takes in a reply beside itself: the number of its field, and its length.
OVERHEAD = 8
_DIGEST = 16


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


class Fetch(Protocol):
    """Asks the core for so many jobs behind a cursor."""

    async def __call__(self, limit: int, cursor: str | None) -> JobPage: ...


async def fitting_page(
    fetch: Fetch,
    to_info: Callable[[JobRecord], JobInfo],
    *,
    limit: int,
    cursor: str | None,
    most_bytes: int,
) -> tuple[list[JobInfo], str | None]:
    """As many jobs as fit into one message, up to ``limit`` and at least one, and the cursor behind
    them.

    They are asked for in small portions: a thousand large ones would be more than there is memory
    for, and other calls come in between. Raises Full if the caller has too much unread.
    """
    infos: list[JobInfo] = []
    size, portion = 0, PORTION
    while len(infos) < limit:
        asked = min(portion, limit - len(infos))
        page = await fetch(asked, cursor)
        found = [to_info(record) for record in page.records]
        more = sum(info.ByteSize() + OVERHEAD for info in found)
        if size + more > most_bytes and len(found) + len(infos) > 1:
            if asked == 1:
                break
            portion = max(1, asked // 4)
            continue
        answer_grows(more)
        infos += found
        size += more
        cursor = page.next_cursor
        if cursor is None or len(found) < asked:
            break
    return infos, cursor


def _digest(where: str, cursor: str) -> str:
    # Against mistakes, not against forgers: they could only read what they may read anyway.
    return blake2b(f"{where}\n{cursor}".encode(), digest_size=_DIGEST // 2).hexdigest()
