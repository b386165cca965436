"""Pages of jobs from several stores, one store after the other."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from towline_broker.core.stores import Store, Stores
from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import JobPage
from towline_broker.drivers.interface import DeadQuery, Feature, JobQuery


async def list_jobs(stores: Stores, query: JobQuery) -> JobPage:
    async def page(store: Store, cursor: str | None) -> JobPage:
        return await store.driver.list_jobs(replace(query, cursor=cursor))

    return await _page(_looked_at(stores, query.queue, Feature.LISTING), query.cursor, page)


async def list_dead(stores: Stores, query: DeadQuery) -> JobPage:
    async def page(store: Store, cursor: str | None) -> JobPage:
        return await store.driver.list_dead(replace(query, cursor=cursor))

    looked_at = _looked_at(stores, query.filter.queue, Feature.DEAD_LETTERS)
    return await _page(looked_at, query.cursor, page)


def _looked_at(stores: Stores, queue: str | None, feature: Feature) -> Sequence[Store]:
    return stores.offering(feature) if queue is None else stores.holding(queue)


async def _page(
    stores: Sequence[Store],
    cursor: str | None,
    page: Callable[[Store, str | None], Awaitable[JobPage]],
) -> JobPage:
    """With several stores a cursor says in which of them the next page begins, and where in it."""
    if len(stores) == 1:
        return await page(stores[0], cursor)
    place, inner = _place(cursor, len(stores))
    found = await page(stores[place], inner)
    if found.next_cursor is not None:
        return JobPage(found.records, f"{place}:{found.next_cursor}")
    if place + 1 < len(stores):
        return JobPage(found.records, f"{place + 1}:")
    return found


def _place(cursor: str | None, count: int) -> tuple[int, str | None]:
    if cursor is None:
        return 0, None
    place, _, inner = cursor.partition(":")
    if not (place.isascii() and place.isdigit() and len(place) < 4 and int(place) < count):
        raise InvalidField("page_token", "is not one that this broker gave out")
    return int(place), inner or None
