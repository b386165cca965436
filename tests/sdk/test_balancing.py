"""Clients and workers over two brokers on one store: both are used, and one can go."""

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.sdk.both_clients import answer, connected
from tests.support.broker_process import BrokerProcess
from tests.support.servers.postgres import PostgresServer
from towline import AsyncClient, Client, Registry, Worker, job
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub

PATIENCE = 30.0

registry = Registry()


@job(registry=registry, retention=60, queue="balanced")
def double(number: int) -> int:
    return 2 * number


class Pair(NamedTuple):
    one: BrokerProcess
    other: BrokerProcess

    @property
    def url(self) -> str:
        """Both, as a name with two addresses would give them to gRPC."""
        return f"ipv4:{self.one.address},{self.other.address}"


@pytest.fixture(scope="module")
def brokers() -> Iterator[Pair]:
    """A test that kills one of them starts it again."""
    with PostgresServer() as server:
        store = server.create_database()
        with BrokerProcess(store) as one, BrokerProcess(store) as other:
            yield Pair(one, other)


def brokers_that_answer(client: Client, calls: int = 20) -> set[str]:
    """Each by the time at which it started."""
    stub = AdminServiceStub(client.channel)
    answers = [stub.Stats(StatsRequest(), timeout=10) for _ in range(calls)]
    return {answer.broker.started_at.ToJsonString() for answer in answers}


def test_calls_go_to_all_brokers_in_turn(brokers: Pair) -> None:
    with Client(brokers.url) as client:
        wait_for_both(client)
        for _ in range(5):
            assert len(brokers_that_answer(client, 2)) == 2


def test_a_name_is_resolved(brokers: Pair) -> None:
    port = brokers.one.address.rpartition(":")[2]
    with Client(f"dns:///localhost:{port}") as client:
        assert len(brokers_that_answer(client, 2)) == 1


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_broker_that_is_killed_fails_no_call(
    kind: type[Client] | type[AsyncClient], brokers: Pair
) -> None:
    sent = []
    with Worker(brokers.url, registry=registry, queues=["balanced"], concurrency=2):
        async with connected(kind, brokers.url) as client:
            for number in range(90):
                sent.append(await answer(client.dispatch(double, number=number)))
                if number == 30:
                    brokers.one.kill()
                if number == 60:
                    await asyncio.to_thread(brokers.one.start)
            results = [await answer(handle.result(timeout=PATIENCE)) for handle in sent]
    assert results == [2 * number for number in range(90)]


def test_a_broker_that_comes_back_is_used_again(brokers: Pair) -> None:
    with Client(brokers.url) as client:
        wait_for_both(client)
        brokers.other.kill()
        assert len(brokers_that_answer(client)) == 1
        brokers.other.start()
        wait_for_both(client)


def wait_for_both(client: Client) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(brokers_that_answer(client, 4)) < 2:
        assert time.monotonic() < deadline, "only one broker is used"
