"""Several stores behind one broker, as the command shows them."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cli.conftest import Command, Line
from tests.support.broker_process import BrokerProcess
from towline import Client
from towline.v1.admin_service_pb2 import MoveQueueRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub


@dataclass(frozen=True)
class Stores:
    """A broker on "default" and "ram", with a queue in each."""

    broker: BrokerProcess
    client: Client

    def begin_to_move(self, queue: str, store: str) -> None:
        stub = AdminServiceStub(self.client.channel)
        stub.MoveQueue(MoveQueueRequest(queue=queue, store=store, limit=1), timeout=10)


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    environment = {"TOWLINE_QUEUES": '{"fast.*": {"store": "ram"}}'}
    with (
        BrokerProcess(
            "sqlite:///jobs.db", "--store", "ram=memory:", environment=environment
        ) as broker,
        Client(broker.address) as client,
    ):
        monkeypatch.setenv("TOWLINE_URL", broker.address)
        for queue in ("slow", "fast.mail"):
            for _ in range(3):
                client.dispatch("Stack", {}, queue=queue)
        yield Stores(broker, client)


def test_queues_shows_the_store_of_each_and_where_it_is_moving(
    towline: Command, stores: Stores
) -> None:
    stores.begin_to_move("slow", "ram")
    towline("pause", "slow")
    heading, fast, slow = (row.split() for row in towline("queues").out.splitlines())
    assert heading[-2:] == ["STATE", "STORE"]
    assert (fast[0], fast[-2:]) == ("fast.mail", ["open", "ram"])
    assert (slow[0], slow[-5:]) == ("slow", ["paused,", "moving", "to", "ram", "default"])
    listed = {row["queue"]: row for row in towline("queues", "--json").lines}
    assert (listed["slow"]["store"], listed["slow"]["moving_to"]) == ("default", "ram")
    assert (listed["fast.mail"]["store"], listed["fast.mail"]["moving_to"]) == ("ram", None)


def test_stats_shows_what_each_store_promises(towline: Command, stores: Stores) -> None:
    shown = towline("stats").out.splitlines()
    assert any(row.startswith("store default  sqlite, durable: ") for row in shown)
    assert any(row.startswith("store ram      memory, none: ") for row in shown)
    told = towline("stats", "--json").document["broker"]
    assert [(store["name"], store["driver"]) for store in told["stores"]] == [
        ("default", "sqlite"),
        ("ram", "memory"),
    ]
    assert [store["durability"] for store in told["stores"]] == ["DURABLE", "NONE"]
    assert told["stores"][0]["durability_note"] == told["durability_note"]


def test_with_one_store_there_is_no_word_of_it(towline: Command, line: Line) -> None:
    line.push()
    assert "STORE" not in towline("queues").out
    assert any(row.startswith("store ") for row in towline("stats").out.splitlines())
    assert len(towline("stats", "--json").document["broker"]["stores"]) == 1
