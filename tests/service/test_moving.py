"""Several stores behind one broker, and moving a queue between them, over the wire."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.support.calls import Calls, calls_to, failure_of
from tests.support.faulty_driver import FaultyDriver
from tests.support.waiting import until
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as pb
from towline.v1.dead_letter_service_pb2 import DeadFilter, ListDeadRequest
from towline.v1.job_pb2 import Job
from towline_broker.drivers.interface import Driver, QueueState, Transfer
from towline_broker.drivers.registry import create_driver
from towline_broker.server.configuration.queue_settings import QueueOptions
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer, running_broker

MOVES = ["memory to memory", "memory to sqlite", "sqlite to sqlite", "sqlite to memory"]


@pytest.fixture(params=MOVES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Two stores, "default" and "other"."""
    kinds = request.param.split(" to ")
    urls = [
        "memory:" if kind == "memory" else f"sqlite:///{tmp_path / str(number)}.db"
        for number, kind in enumerate(kinds)
    ]
    return Settings(
        store=urls[0],
        stores={"other": urls[1]},
        queues={"far": QueueOptions(store="other"), "far.*": QueueOptions(store="other")},
        listen="127.0.0.1:0",
    )


@pytest.fixture
async def calls(settings: Settings) -> AsyncIterator[Calls]:
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        yield calls


async def push(calls: Calls, count: int, queue: str = "q", **fields: Any) -> list[str]:
    jobs = [Job(queue=queue, type="T", **fields) for _ in range(count)]
    return [result.job_id for result in (await calls.queue.Push(pb.PushRequest(jobs=jobs))).results]


async def reserve(calls: Calls, count: int = 1000, queue: str = "q", wait: int = 0) -> list[Any]:
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=queue)], max_jobs=count)
    request.wait.FromSeconds(wait)
    return list((await calls.queue.Reserve(request)).leases)


async def ack(calls: Calls, leases: list[Any]) -> list[int]:
    if not leases:
        return []
    acks = [pb.Ack(lease_token=lease.lease_token) for lease in leases]
    return [result.outcome for result in (await calls.queue.Ack(pb.AckRequest(acks=acks))).results]


async def step(calls: Calls, store: str = "other", limit: int = 0, queue: str = "q") -> Any:
    return await calls.admin.MoveQueue(
        admin.MoveQueueRequest(queue=queue, store=store, limit=limit)
    )


async def move(calls: Calls, store: str = "other", limit: int = 0) -> int:
    """All steps; returns how many jobs they moved."""
    moved, complete = 0, False
    async with asyncio.timeout(30):
        while not complete:
            answer = await step(calls, store, limit)
            moved, complete = moved + answer.moved, answer.complete
    return moved


async def queue_info(calls: Calls, name: str = "q") -> Any:
    answer = await calls.admin.ListQueues(admin.ListQueuesRequest())
    return next(info for info in answer.queues if info.name == name)


async def test_every_queue_is_listed_with_the_store_that_holds_it(calls: Calls) -> None:
    for queue in ("near", "far", "far.off"):
        await push(calls, 1, queue)
    answer = await calls.admin.ListQueues(admin.ListQueuesRequest())
    assert {
        info.name: (info.store, info.moving_to, info.depth.ready) for info in answer.queues
    } == {
        "near": ("default", "", 1),
        "far": ("other", "", 1),
        "far.off": ("other", "", 1),
    }


async def test_the_broker_tells_of_each_of_its_stores(calls: Calls, settings: Settings) -> None:
    told = (await calls.admin.Stats(admin.StatsRequest())).broker
    kinds = [url.partition(":")[0] for url in settings.all_stores.values()]
    assert [(store.name, store.driver) for store in told.stores] == [
        ("default", kinds[0]),
        ("other", kinds[1]),
    ]
    durable = {"memory": admin.DURABILITY_NONE, "sqlite": admin.DURABILITY_DURABLE}
    assert [store.durability for store in told.stores] == [durable[kind] for kind in kinds]
    assert all(store.durability_note for store in told.stores)
    assert told.driver == told.stores[0].driver
    assert told.durability == told.stores[0].durability
    assert told.durability_note == told.stores[0].durability_note


async def test_a_queue_moves_with_all_its_jobs_in_their_order(calls: Calls) -> None:
    ids = await push(calls, 7) + await push(calls, 6)
    first = await push(calls, 2, priority=5)
    dead = await reserve(calls, 1)
    await calls.queue.Nack(
        pb.NackRequest(nacks=[pb.Nack(lease_token=dead[0].lease_token, dead_letter=True)])
    )
    later = Job(queue="q", type="T")
    later.delay.FromSeconds(3600)
    await calls.queue.Push(pb.PushRequest(jobs=[later]))
    assert await move(calls, limit=4) == 16
    info = await queue_info(calls)
    assert (info.store, info.moving_to) == ("other", "")
    assert (info.depth.ready, info.depth.scheduled, info.depth.dead) == (14, 1, 1)
    assert [lease.job.id for lease in await reserve(calls)] == [*first[1:], *ids]
    listed = await calls.dead.ListDead(ListDeadRequest(filter=DeadFilter(queue="q")))
    assert [job.job.id for job in listed.jobs] == first[:1]


async def test_until_the_end_nobody_gets_a_job_and_everybody_can_push(calls: Calls) -> None:
    await push(calls, 10)
    answer = await step(calls, limit=3)
    assert (answer.moved, answer.remaining, answer.leased, answer.complete) == (3, 7, 0, False)
    assert await reserve(calls) == []
    assert len(await push(calls, 5)) == 5
    info = await queue_info(calls)
    assert (info.store, info.moving_to, info.depth.ready) == ("default", "other", 15)
    waiting = asyncio.ensure_future(reserve(calls, wait=30))
    assert await move(calls) == 12
    assert len(await waiting) == 15


async def test_it_waits_for_leases_that_were_granted_before(calls: Calls) -> None:
    await push(calls, 3)
    (held, retried) = await reserve(calls, 2)
    answer = await step(calls)
    assert (answer.moved, answer.remaining, answer.leased, answer.complete) == (1, 0, 2, False)
    answer = await step(calls)
    assert (answer.moved, answer.remaining, answer.leased, answer.complete) == (0, 0, 2, False)
    assert await ack(calls, [held]) == [pb.LEASE_OUTCOME_OK]
    release = pb.Nack(lease_token=retried.lease_token)
    release.retry_after.FromSeconds(0)
    await calls.queue.Nack(pb.NackRequest(nacks=[release]))
    assert await move(calls) == 1
    leases = await reserve(calls)
    assert {lease.job.id for lease in leases} >= {retried.job.id}
    assert held.job.id not in {lease.job.id for lease in leases}
    # The old store remembers how that lease ended.
    assert await ack(calls, [held]) == [pb.LEASE_OUTCOME_OK]


async def test_it_can_be_turned_round(calls: Calls) -> None:
    ids = await push(calls, 9)
    await step(calls, limit=4)
    wrong = await failure_of(step(calls, "third"))
    assert wrong.violations.keys() == {"store"}
    await move(calls, "default", limit=3)
    info = await queue_info(calls)
    assert (info.store, info.moving_to) == ("default", "")
    assert {lease.job.id for lease in await reserve(calls)} == set(ids)


async def test_wrong_moves_are_refused_by_field(calls: Calls) -> None:
    await push(calls, 1)
    empty = await failure_of(step(calls, store="", limit=-1, queue=""))
    assert empty.violations.keys() == {"queue", "store", "limit"}
    above = await failure_of(step(calls, limit=1001))
    assert above.violations.keys() == {"limit"}
    unknown = await failure_of(step(calls, "elsewhere"))
    assert unknown.reason == "INVALID_FIELD"
    assert "it has default, other" in unknown.violations["store"]
    missing = await failure_of(step(calls, queue="nowhere"))
    assert missing.reason == "QUEUE_NOT_FOUND"
    assert (await step(calls, "default")).complete


async def test_nothing_is_lost_or_doubled_while_producers_push_and_workers_work(
    calls: Calls,
) -> None:
    pushed: list[str] = []
    done: list[str] = []
    moves = ["other", "default", "other"]
    produced = asyncio.Event()

    async def produce() -> None:
        for _ in range(60):
            pushed.extend(await push(calls, 5))
            await asyncio.sleep(0.005)

    async def work() -> None:
        while not (produced.is_set() and len(done) >= len(pushed)):
            leases = await reserve(calls, 7, wait=1)
            assert await ack(calls, leases) == [pb.LEASE_OUTCOME_OK] * len(leases)
            done.extend(lease.job.id for lease in leases)

    async def move_about() -> None:
        for goal, store in enumerate(moves, 1):
            await until(lambda goal=goal: done_are(goal * 50), "jobs are done")  # type: ignore[misc]
            await move(calls, store, limit=10)

    async def done_are(count: int) -> bool:
        return len(done) >= count

    async with asyncio.TaskGroup() as workers:
        for _ in range(2):
            workers.create_task(work())
        async with asyncio.TaskGroup() as others:
            for each in (produce, produce, move_about):
                others.create_task(each())
        produced.set()
    assert sorted(done) == sorted(pushed)


async def test_it_comes_to_an_end_however_much_is_pushed_meanwhile(calls: Calls) -> None:
    ended = asyncio.Event()
    pushed: list[str] = []

    async def produce() -> None:
        while not ended.is_set():
            pushed.extend(await push(calls, 5))
            await asyncio.sleep(0.001)

    async with asyncio.TaskGroup() as producers:
        for _ in range(4):
            producers.create_task(produce())
        await until(lambda: at_least(pushed, 50), "jobs are pushed")
        await move(calls)
        ended.set()
    assert (await queue_info(calls)).depth.ready == len(pushed)


async def at_least(done: list[str], count: int) -> bool:
    return len(done) >= count


class ForwardsTooSoon:
    """A store in which a push was under way when it began to forward: jobs are left behind."""

    def __init__(self) -> None:
        self._inner = create_driver("memory:")
        self._moved = False

    async def outgoing(self, queue: str, limit: int) -> Sequence[Transfer]:
        return await self._inner.outgoing(queue, limit) if self._moved else []

    async def forward(self, queue: str) -> bool:
        self._moved = True
        return True

    async def queues(self) -> list[QueueState]:
        return [replace(state, moved=self._moved) for state in await self._inner.queues()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_jobs_that_were_left_behind_are_fetched() -> None:
    settings = Settings(store="memory:", stores={"other": "memory:"}, listen="127.0.0.1:0")
    drivers = {"default": cast(Driver, ForwardsTooSoon())}
    async with (
        running_broker(settings, drivers=drivers) as server,
        calls_to(str(server.address)) as calls,
    ):
        ids = await push(calls, 3)
        assert await move(calls) == 0
        got = [lease.job.id for _ in ids for lease in await reserve(calls, 1, wait=30)]
        assert sorted(got) == sorted(ids)


async def test_jobs_that_are_being_fetched_come_to_their_end_before_the_broker_does() -> None:
    settings = Settings(store="memory:", stores={"other": "memory:"}, listen="127.0.0.1:0")
    target = FaultyDriver()
    drivers = {"default": cast(Driver, ForwardsTooSoon()), "other": target.driver}
    server = BrokerServer(settings, drivers=drivers)
    await server.start()
    async with calls_to(str(server.address)) as calls:
        target.hold("receive")
        ids = await push(calls, 3)
        await move(calls)
        await asyncio.wait_for(target.reached["receive"].wait(), 20)
    stopping = asyncio.ensure_future(server.stop())
    done, _ = await asyncio.wait([stopping], timeout=0.2)
    assert not done, "it stops while jobs are in two stores"
    target.let_go("receive")
    await stopping
    left = await drivers["default"].counts()
    assert [row.depth.ready for row in left] == [0]
    assert len(ids) == 3


async def test_a_restart_finds_every_queue_where_it_is(tmp_path: Path) -> None:
    settings = Settings(
        store=f"sqlite:///{tmp_path / 'a.db'}",
        stores={"other": f"sqlite:///{tmp_path / 'b.db'}"},
        listen="127.0.0.1:0",
    )
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        await push(calls, 10, "moved")
        await push(calls, 10, "under-way")
        while not (await step(calls, queue="moved")).complete:
            pass
        await step(calls, queue="under-way", limit=4)
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        moved, under_way = await queue_info(calls, "moved"), await queue_info(calls, "under-way")
        assert (moved.store, moved.moving_to) == ("other", "")
        assert (under_way.store, under_way.moving_to) == ("default", "other")
        assert len(await reserve(calls, queue="moved")) == 10
        assert await reserve(calls, queue="under-way") == []
        while not (await step(calls, queue="under-way")).complete:
            pass
        assert len(await reserve(calls, queue="under-way")) == 10
