"""The simulated loop: time jumps, chance orders what is ready, and the dead do nothing any more."""

import asyncio
from collections.abc import Coroutine
from contextlib import closing
from random import Random
from typing import Any, TypeVar

import pytest

from tests.simulation.loop import Loop, Process, Stuck
from tests.simulation.threads import Thread, Waiting, current

T = TypeVar("T")


def played(coroutine: Coroutine[Any, Any, T], seed: int = 1, *, in_order: bool = False) -> T:
    """To its end."""
    with closing(Loop(Random(seed), in_order=in_order)) as loop:
        return loop.run_until_complete(coroutine)


def test_time_jumps_to_the_next_timer() -> None:
    async def main() -> float:
        await asyncio.gather(asyncio.sleep(3_600), asyncio.sleep(7_200))
        return asyncio.get_running_loop().time()

    assert played(main()) == 7_200


def order(seed: int, *, in_order: bool) -> list[int]:
    order: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in range(8):
            loop.call_soon(order.append, number)
        await asyncio.sleep(1)

    played(main(), seed, in_order=in_order)
    return order


def test_what_is_ready_runs_in_an_order_that_the_seed_decides() -> None:
    orders = [order(seed, in_order=False) for seed in range(20)]
    assert len({tuple(each) for each in orders}) > 15
    assert orders == [order(seed, in_order=False) for seed in range(20)]
    assert order(1, in_order=True) == list(range(8))


def test_calls_from_threads_keep_their_order() -> None:
    heard: list[int] = []

    def work() -> None:
        for number in range(20):
            asyncio.get_running_loop().call_soon_threadsafe(heard.append, number)

    async def main() -> None:
        await asyncio.to_thread(work)

    played(main())
    assert heard == list(range(20))


def test_a_thread_that_pauses_lets_everything_else_go_on() -> None:
    said: list[str] = []

    def work() -> str:
        thread = current()
        assert thread is not None
        said.append("begins")
        thread.pause(2.0)
        said.append("ends")
        return "done"

    async def meanwhile() -> None:
        await asyncio.sleep(1.0)
        said.append("meanwhile")

    async def main() -> str:
        result, _ = await asyncio.gather(asyncio.to_thread(work), meanwhile())
        return result

    assert played(main()) == "done"
    assert said == ["begins", "meanwhile", "ends"]


def test_an_error_on_a_thread_is_raised_where_it_is_awaited() -> None:
    def work() -> None:
        raise OSError("no")

    async def main() -> None:
        await asyncio.to_thread(work)

    with pytest.raises(OSError, match="no"):
        played(main())


def test_a_thread_waits_for_what_the_loop_puts() -> None:
    got: list[int] = []

    async def main() -> Thread:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        waiting = Waiting(loop)
        thread = loop.start_thread(lambda: got.extend([waiting.get(), waiting.get()]))
        for number in (1, 2):
            await asyncio.sleep(1)
            waiting.put(number)
        await asyncio.to_thread(thread.join)
        return thread

    assert played(main()).ended
    assert got == [1, 2]


def test_of_a_dead_process_nothing_runs_any_more() -> None:
    process = Process("p")
    said: list[str] = []

    def work() -> None:
        thread = current()
        assert thread is not None
        thread.pause(10)
        said.append("thread")

    async def live() -> None:
        asyncio.get_running_loop().call_later(10, said.append, "timer")
        try:
            await asyncio.to_thread(work)
        finally:
            said.append("finally")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(live(), context=process.context())
        await asyncio.sleep(5)
        process.alive = False
        await asyncio.sleep(100)
        assert not task.done()

    played(main())
    assert said == []
    assert len(process.tasks) == 1


def test_a_loop_with_nothing_left_to_do_says_so() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck, match="nothing is left"):
        played(main())
