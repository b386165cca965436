"""P9: what was begun is done, whatever becomes of its caller."""

import asyncio

import pytest

from towline_broker.core.owned import OwnedTasks
from towline_broker.domain.errors import StoreFailed


class Work:
    """Answers with 7, or raises, once it is let to."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.goes_on = asyncio.Event()
        self.ended = asyncio.Event()
        self._raises = raises

    async def __call__(self) -> int:
        await self.goes_on.wait()
        self.ended.set()
        if self._raises is not None:
            raise self._raises
        return 7


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_done_for_a_caller_that_has_gone_is_told_to_whom_it_is_left(
    at_once: bool,
) -> None:
    owned, work, left = OwnedTasks(), Work(), list[int]()

    async def take(result: int) -> None:
        left.append(result)

    run = owned.run_at_once if at_once else owned.run
    caller = asyncio.create_task(run(work(), take))
    await turns()
    caller.cancel()
    await turns()
    assert caller.cancelled()
    assert not work.ended.is_set()
    work.goes_on.set()
    await owned.settle()
    assert left == [7]


async def test_also_when_it_is_done_at_the_moment_in_which_its_caller_goes() -> None:
    owned, work, left = OwnedTasks(), Work(), list[int]()

    async def take(result: int) -> None:
        left.append(result)

    caller = asyncio.create_task(owned.run(work(), take))
    await turns()
    work.goes_on.set()
    await work.ended.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await owned.settle()
    assert left == [7]


@pytest.mark.parametrize("at_once", [False, True])
async def test_the_end_of_a_store_is_known_before_anybody_hears_of_it(at_once: bool) -> None:
    owned, work = OwnedTasks(), Work(StoreFailed("broken"))
    work.goes_on.set()
    with pytest.raises(StoreFailed):
        await (owned.run_at_once if at_once else owned.run)(work())
    assert owned.failed.is_set()
    await owned.settle()


async def test_it_is_known_also_if_nobody_waits_any_more() -> None:
    owned, work = OwnedTasks(), Work(StoreFailed("broken"))
    caller = asyncio.create_task(owned.run(work()))
    await turns()
    caller.cancel()
    await turns()
    work.goes_on.set()
    await owned.settle()
    assert owned.failed.is_set()


async def test_work_that_is_cancelled_is_so_for_its_caller() -> None:
    owned = OwnedTasks()

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(owned.run(cancelled()), 5)
