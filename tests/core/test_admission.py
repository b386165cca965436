"""P11: a store is given no more new jobs at the same time than it stores within a moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from towline_broker.core import admission as module
from towline_broker.core import line
from towline_broker.core.admission import Admission
from towline_broker.domain.errors import Busy


@asynccontextmanager
async def given(admission: Admission, jobs: int) -> AsyncIterator[None]:
    """So many are in the store, as long as the block runs."""
    began = admission.enter(jobs)
    if began is None:
        began = await admission.wait(jobs)
    try:
        yield
    finally:
        admission.leave(jobs, began)


@asynccontextmanager
async def taken(admission: Admission, jobs: int) -> AsyncIterator[None]:
    """A Push of so many jobs is in the store, as long as the block runs; with some that are small,
    so that no further call gets in by being one of the first."""
    async with AsyncExitStack() as stack:
        for each in (1,) * (module.LEAST_CALLS - 1) + (jobs,):
            await stack.enter_async_context(given(admission, each))
        yield


async def test_pushes_wait_in_the_order_in_which_they_came() -> None:
    admission, order = Admission(), list[int]()

    async def push(number: int) -> None:
        async with given(admission, 10):
            order.append(number)

    async with taken(admission, module.FIRST):
        pushes = [asyncio.create_task(push(number)) for number in range(5)]
        await asyncio.sleep(0.01)
        assert order == []
    await asyncio.gather(*pushes)
    assert order == [0, 1, 2, 3, 4]


async def test_a_crowd_that_does_not_move_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "MOST_WAIT", 0.0)
    admission = Admission()
    async with taken(admission, module.FIRST):
        pushes = []
        for _ in range(line.CROWD):
            assert not admission.crowded
            pushes.append(asyncio.create_task(push_in(admission)))
            await asyncio.sleep(0.001)
        assert admission.crowded
        with pytest.raises(Busy):
            await push_in(admission)
    await asyncio.gather(*pushes)
    assert not admission.crowded


async def push_in(admission: Admission) -> None:
    async with given(admission, 1):
        pass


async def test_nobody_waits_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.01)
    admission = Admission()
    async with taken(admission, module.FIRST):
        with pytest.raises(Busy):
            await push_in(admission)
    await push_in(admission)


async def test_who_goes_leaves_its_place_to_others() -> None:
    admission = Admission()
    async with taken(admission, module.FIRST):
        gone, next_one = (asyncio.create_task(push_in(admission)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
    await next_one
    # Gone just when it is its turn.
    async with taken(admission, 2 * module.FIRST):
        gone = asyncio.create_task(push_in(admission))
        await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (admission._calls, admission._jobs) == (0, 0)


async def test_a_store_that_is_slow_is_given_less_and_one_that_is_fast_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission = Admission()
    monkeypatch.setattr(module, "TARGET", 0.0)
    for _ in range(50):
        await push_in(admission)
    assert admission._limit == module.LEAST
    monkeypatch.setattr(module, "TARGET", 60.0)
    async with taken(admission, module.LEAST):
        pushes = [asyncio.create_task(push_in(admission)) for _ in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*pushes)
    assert admission._limit > module.LEAST
