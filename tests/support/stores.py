"""Calls to a driver in a few words, at times that the test says."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import TypeVar

from towline_broker.domain.jobs import Leased, NewJob
from towline_broker.domain.time import HOUR, SECOND, Micros
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    Driver,
    JobQuery,
    PushBatch,
    PushResult,
    ReserveRequest,
    Settled,
)
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard

LEASE = 30 * SECOND

D = TypeVar("D", bound=Driver)

_grants = count(1)


@asynccontextmanager
async def open_store(
    driver: D, heard: Heard | None = None, *, now: Micros = START
) -> AsyncIterator[D]:
    await driver.open(now, heard or Heard())
    try:
        yield driver
    finally:
        await driver.close()


def with_options(url: str, *options: str) -> str:
    return url + ("&" if "?" in url else "?") + "&".join(options)


async def push(driver: Driver, *jobs: NewJob, now: Micros = START) -> list[PushResult]:
    return await driver.push(PushBatch(jobs, now))


async def reserve(
    driver: Driver, count: int, *queues: str, grant: str | None = None, now: Micros = START
) -> list[Leased]:
    """Under a grant of its own, unless one is named."""
    grant = grant or f"grant-{next(_grants)}"
    return await driver.reserve(ReserveRequest(queues or ("q",), count, LEASE, grant, now))


async def ack(
    driver: Driver, leased: Sequence[Leased], now: Micros = START, *, window: Micros = HOUR
) -> list[Settled]:
    items = [AckItem(one.ref) for one in leased]
    return await driver.ack(AckBatch(items, now, now + window))


async def stored_ids(driver: Driver) -> list[str]:
    """Of every stored job, in the order of their push."""
    ids: list[str] = []
    cursor = None
    while True:
        page = await driver.list_jobs(JobQuery(1_000, cursor=cursor))
        ids += [record.id for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            return ids
