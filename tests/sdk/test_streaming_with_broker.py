"""Streams of pushes over real brokers that are restarted or killed: nobody notices, and what was
told is true."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.servers.postgres import PostgresServer
from towline import AsyncClient, BrokerUnavailable, Client, DeadlineExceeded

CALLERS = 8
JOBS = 300
"""At least so many are stored between two events."""
PATIENCE = 60.0


class Pair(NamedTuple):
    one: BrokerProcess
    other: BrokerProcess

    @property
    def url(self) -> str:
        return f"ipv4:{self.one.address},{self.other.address}"


@pytest.fixture
def brokers() -> Iterator[Pair]:
    with PostgresServer() as server:
        store = server.create_database()
        with (
            BrokerProcess(store, "--log-level", "debug") as one,
            BrokerProcess(store, "--log-level", "debug") as other,
        ):
            yield Pair(one, other)


def served_a_stream(broker: BrokerProcess) -> bool:
    return "PushStream" in broker.log


class Callers:
    """Threads that dispatch job after job; any error ends the test."""

    def __init__(self, client: Client) -> None:
        self.stored: list[str] = []
        self._client = client
        self._stop = threading.Event()
        self._threads = ThreadPoolExecutor(CALLERS)
        self._running = [self._threads.submit(self._run) for _ in range(CALLERS)]

    def until_more_are_stored(self, jobs: int = JOBS) -> None:
        enough, deadline = len(self.stored) + jobs, time.monotonic() + PATIENCE
        while len(self.stored) < enough:
            assert time.monotonic() < deadline, "nothing is stored any more"
            assert not any(each.done() and each.exception() for each in self._running)
            time.sleep(0.01)

    def end(self) -> set[str]:
        self._stop.set()
        for each in self._running:
            each.result(PATIENCE)
        self._threads.shutdown()
        assert len(set(self.stored)) == len(self.stored)
        return set(self.stored)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.stored.append(self._client.dispatch("x", queue="pushed").id)


def test_brokers_that_are_restarted_in_turn_fail_no_dispatch(brokers: Pair) -> None:
    with Client(brokers.url, call_timeout=PATIENCE) as client:
        callers = Callers(client)
        for broker in (*brokers, *brokers):
            callers.until_more_are_stored()
            assert broker.stop() == 0
            broker.start()
        callers.until_more_are_stored()
        stored = callers.end()
        assert client.stats("pushed").total.pending == len(stored)
    assert all(map(served_a_stream, brokers))


def test_p1_brokers_that_are_killed_lose_nothing_that_was_told(brokers: Pair) -> None:
    with Client(brokers.url, call_timeout=PATIENCE) as client:
        callers = Callers(client)
        for broker in brokers:
            callers.until_more_are_stored()
            broker.kill()
            callers.until_more_are_stored()
            broker.start()
        stored = callers.end()
        assert client.stats("pushed").total.pending == len(stored)


def test_streams_spread_over_brokers_by_their_age(
    brokers: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline.transport.streams.AGE", 0.2)
    with Client(brokers.url) as client:
        callers = Callers(client)
        deadline = time.monotonic() + PATIENCE
        while not all(map(served_a_stream, brokers)):
            assert time.monotonic() < deadline
            callers.until_more_are_stored(20)
        callers.end()


async def test_p1_tasks_over_a_broker_that_is_killed(tmp_path: Path) -> None:
    stored: list[str] = []
    progress = asyncio.Semaphore(0)
    killed = asyncio.Event()

    async def caller(client: AsyncClient) -> None:
        while not killed.is_set():
            with suppress(BrokerUnavailable, DeadlineExceeded):  # nobody was told that it is stored
                stored.append((await client.dispatch("x")).id)
                progress.release()

    async def kill_twice(broker: BrokerProcess) -> None:
        for _ in range(2):
            for _ in range(JOBS):
                await asyncio.wait_for(progress.acquire(), PATIENCE)
            broker.kill()
            await asyncio.to_thread(broker.start)
        killed.set()

    with BrokerProcess(f"file:///{tmp_path}/jobs", folder=tmp_path) as broker:
        async with AsyncClient(broker.address) as client:
            await asyncio.gather(kill_twice(broker), *(caller(client) for _ in range(CALLERS)))
            assert len(set(stored)) == len(stored)
            found = [await client.get(job_id) for job_id in stored[:: len(stored) // 100]]
            assert len(found) >= 100
            assert (await client.stats()).total.pending >= len(stored)
