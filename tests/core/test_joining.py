"""Small calls that come together are one of the store, each answered for itself (P3, P9)."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from tests.core.factories import job
from tests.support.faulty_driver import SlowDriver
from towline_broker.core import joining as module
from towline_broker.core import line
from towline_broker.core.broker import Broker
from towline_broker.core.joining import AT_ONCE, MOST_OF_CALL, MOST_OF_GROUP, Joining
from towline_broker.core.owned import OwnedTasks
from towline_broker.core.queue_options import QueueOptions
from towline_broker.domain.errors import Busy, QueueFull, StoreFailed, StoreFull, StoreUnavailable
from towline_broker.drivers.interface import PushOutcome


class Tens:
    """Answers with ten times the number, once it is let to; ``raises`` is for who asks about 13."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.given: list[Sequence[int]] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self._raises = raises

    def end_those_given(self) -> None:
        """Of those that it was given, and not of any that come now."""
        self.goes_on.set()
        self.goes_on = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> Sequence[int]:
        self.given.append(list(numbers))
        await self.goes_on.wait()
        if self._raises is not None and 13 in numbers:
            raise self._raises
        return [10 * number for number in numbers]


def asked(joining: Joining[int, int], *numbers: int) -> "asyncio.Task[Sequence[int]]":
    return asyncio.create_task(_ask(joining, numbers))


async def _ask(joining: Joining[int, int], numbers: Sequence[int]) -> Sequence[int]:
    return await joining.ask(numbers)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_of_one_turn_are_one_and_each_gets_its_own_answers() -> None:
    store, owned = Tens(), OwnedTasks()
    joining = Joining(store, owned)
    answers = await asyncio.gather(asked(joining, 1), asked(joining, 2, 3), asked(joining, 4))
    assert [list(each) for each in answers] == [[10], [20, 30], [40]]
    assert store.given == [[1, 2, 3, 4]]


async def test_calls_gather_only_while_the_store_is_busy_with_two_groups() -> None:
    store, owned = Tens(), OwnedTasks()
    joining = Joining(store, owned)
    store.goes_on.clear()
    calls = []
    for number in range(AT_ONCE + 3):
        calls.append(asked(joining, number))
        await turns()
    assert store.given == [[number] for number in range(AT_ONCE)]
    store.goes_on.set()
    await asyncio.gather(*calls)
    assert store.given[AT_ONCE:] == [[AT_ONCE, AT_ONCE + 1, AT_ONCE + 2]]


async def test_no_group_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OF_GROUP", 4)
    store = Tens()
    joining = Joining(store, OwnedTasks())
    answers = await asyncio.gather(*(asked(joining, n, n + 100) for n in range(5)))
    assert [list(each) for each in answers] == [[10 * n, 10 * (n + 100)] for n in range(5)]
    assert [len(group) for group in store.given] == [4, 4, 2]


async def test_a_large_call_is_alone_and_behind_those_that_came_before() -> None:
    store = Tens()
    joining = Joining(store, OwnedTasks())
    large = list(range(MOST_OF_CALL + 1))
    calls = [asked(joining, 1), asked(joining, *large), asked(joining, 2)]
    answers = await asyncio.gather(*calls)
    assert [len(each) for each in answers] == [1, len(large), 1]
    assert store.given[0][0] == 1
    assert large in store.given


async def test_what_fails_for_one_call_does_not_fail_for_the_others() -> None:
    store = Tens(StoreFull("memory", "is full"))
    joining = Joining(store, OwnedTasks())
    answers = await asyncio.gather(
        *(asked(joining, number) for number in (12, 13, 14)), return_exceptions=True
    )
    assert answers[0] == [120]
    assert isinstance(answers[1], StoreFull)
    assert answers[2] == [140]
    assert store.given == [[12, 13, 14], [12], [13], [14]]


@pytest.mark.parametrize("error", [StoreUnavailable("away"), StoreFailed("broken")])
async def test_a_store_that_is_away_is_so_for_all_and_is_not_asked_again(error: Exception) -> None:
    store, owned = Tens(error), OwnedTasks()
    joining = Joining(store, owned)
    answers = await asyncio.gather(
        *(asked(joining, number) for number in (12, 13)), return_exceptions=True
    )
    assert answers == [error, error]
    assert store.given == [[12, 13]]
    assert owned.failed.is_set() is isinstance(error, StoreFailed)


async def test_it_is_done_whatever_becomes_of_the_caller() -> None:
    store, owned = Tens(), OwnedTasks()
    joining = Joining(store, owned)
    store.goes_on.clear()
    gone, other = asked(joining, 1), asked(joining, 2)
    await turns()
    gone.cancel()
    await turns()
    store.goes_on.set()
    assert list(await other) == [20]
    assert store.given == [[1, 2]]
    await owned.settle()


async def test_with_a_store_that_answers_at_once_no_call_waits_for_another() -> None:
    store, owned = Tens(StoreFull("memory", "is full")), OwnedTasks()
    joining = Joining(store, owned, at_once=True)
    began = asyncio.all_tasks()
    assert [list(await joining.ask([number])) for number in (1, 2)] == [[10], [20]]
    with pytest.raises(StoreFull):
        await joining.ask([13])
    assert asyncio.all_tasks() == began
    assert store.given == [[1], [2], [13]]
    large = list(range(20, 21 + MOST_OF_CALL))
    assert list(await joining.ask(large)) == [10 * number for number in large]


async def test_a_store_that_fails_at_once_has_failed() -> None:
    owned = OwnedTasks()
    with pytest.raises(StoreFailed):
        await Joining(Tens(StoreFailed("broken")), owned, at_once=True).ask([13])
    assert owned.failed.is_set()


@pytest.mark.parametrize("raises", [None, StoreUnavailable("away")])
async def test_what_waits_though_it_was_to_be_done_at_once_is_done_whoever_has_gone(
    raises: Exception | None,
) -> None:
    store, owned = Tens(raises), OwnedTasks()
    joining = Joining(store, owned, at_once=True)
    store.goes_on.clear()
    gone, other = asked(joining, 1), asked(joining, 13)
    await turns()
    assert store.given == [[1], [13]]
    gone.cancel()
    await turns()
    assert gone.cancelled()
    store.goes_on.set()
    answer = (await asyncio.gather(other, return_exceptions=True))[0]
    assert answer == ([130] if raises is None else raises)
    await owned.settle()


async def behind(joining: Joining[int, int], store: Tens) -> "list[asyncio.Task[Sequence[int]]]":
    """Groups of a call each that the store is busy with, until it goes on."""
    store.goes_on.clear()
    calls = []
    for number in range(AT_ONCE):
        calls.append(asked(joining, number))
        await turns()
    return calls


@pytest.mark.parametrize("of_a_call", [1, 5, MOST_OF_CALL])
async def test_more_than_the_next_group_takes_is_a_crowd_once_it_does_not_move(
    monkeypatch: pytest.MonkeyPatch, of_a_call: int
) -> None:
    monkeypatch.setattr(module, "MOST_WAIT", 0.0)
    store = Tens()
    joining = Joining(store, OwnedTasks())
    calls = await behind(joining, store)
    crowded = []
    for _ in range(MOST_OF_GROUP // of_a_call + 1):
        crowded.append(joining.crowded)
        calls.append(asked(joining, *range(of_a_call)))
        await asyncio.sleep(0)
    assert not any(crowded)
    assert joining.crowded
    store.goes_on.set()
    await asyncio.gather(*calls)
    crowded.append(joining.crowded)
    assert not crowded[-1]


async def test_what_has_waited_for_a_moment_only_is_no_crowd_however_much_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_WAIT", 60.0)
    store = Tens()
    joining = Joining(store, OwnedTasks())
    calls = await behind(joining, store)
    calls += [asked(joining, number) for number in range(2 * MOST_OF_GROUP)]
    await turns()
    assert not joining.crowded
    store.goes_on.set()
    await asyncio.gather(*calls)


async def test_few_calls_are_no_crowd_whatever_they_weigh_and_many_are_by_their_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_WAIT", 0.0)
    store = Tens()
    joining = Joining(store, OwnedTasks(), weigh=lambda number: number)
    calls = await behind(joining, store)
    each = module.MOST_BYTES // (line.CROWD - 1)
    for _ in range(line.CROWD):
        assert not joining.crowded
        calls.append(asked(joining, each))
        await turns()
    assert joining.crowded
    store.goes_on.set()
    await asyncio.gather(*calls)


async def test_those_whom_a_group_leaves_behind_have_waited_since_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A store that is always busy, and never for long, is offered too much all the same."""
    monkeypatch.setattr(module, "MOST_WAIT", 0.05)
    store = Tens()
    joining = Joining(store, OwnedTasks())
    calls = await behind(joining, store)
    calls += [asked(joining, number) for number in range(2 * MOST_OF_GROUP + 1)]
    await asyncio.sleep(0.06)
    store.end_those_given()
    await turns()
    assert len(store.given) == 2 * AT_ONCE
    calls += [asked(joining, number) for number in range(MOST_OF_GROUP)]
    await turns()
    assert joining.crowded
    store.goes_on.set()
    await asyncio.gather(*calls)


async def test_calls_of_one_turn_are_no_crowd_however_long_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_WAIT", 0.0)
    joining = Joining(Tens(), OwnedTasks())
    crowded = []

    async def ask(number: int) -> None:
        crowded.append(joining.crowded)
        await joining.ask([number])

    await asyncio.gather(*(ask(number) for number in range(2 * MOST_OF_GROUP)))
    assert not any(crowded)


@pytest.mark.parametrize(("size", "calls"), [(2, MOST_OF_GROUP), (100_000, line.CROWD)])
async def test_pushes_behind_a_store_that_does_not_move_are_refused_by_their_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch, size: int, calls: int
) -> None:
    monkeypatch.setattr(module, "MOST_WAIT", 0.0)
    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    store = SlowDriver()
    broker = Broker(store.driver)
    await broker.start()
    store.hold("push")
    pushes = []
    for _ in range(AT_ONCE + 1 + calls):
        one = replace(job("q"), envelope=bytes(size))
        pushes.append(asyncio.create_task(broker.jobs.push([one])))
        await turns()
        if broker.jobs.crowded:
            break
    assert len(pushes) >= calls
    pushes.append(asyncio.create_task(broker.jobs.push([job("q")])))
    await turns()
    store.let_go("push")
    *stored, refused = await asyncio.gather(*pushes, return_exceptions=True)
    await broker.stop()
    assert isinstance(refused, Busy)
    assert all(isinstance(each, list) for each in stored)


async def test_of_pushes_that_come_together_only_those_find_no_room_for_which_there_is_none(
    broker: Broker,
) -> None:
    broker.apply({"q": QueueOptions(max_depth=2)})
    pushes = [broker.jobs.push([job("q")]) for _ in range(4)]
    pushes.append(broker.jobs.push([job("r")]))
    answers = await asyncio.gather(*pushes, return_exceptions=True)
    stored = [each[0].outcome for each in answers if isinstance(each, list)]
    assert stored == [PushOutcome.CREATED] * 3
    assert [type(each) for each in answers] == [list, list, QueueFull, QueueFull, list]
