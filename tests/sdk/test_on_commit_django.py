"""What is dispatched in a transaction of Django's is pushed by its commit, and only by that."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import towline
from tests.sdk.scripted_broker import ScriptedBroker, invalid
from tests.support.pages import DOCS
from towline import Client, InvalidArgument, InvalidPayload, Job, Registry

pytest.importorskip("django")

from django.db import connections, transaction  # type: ignore[import-untyped]

from tests.support.django_settings import configure
from towline.contrib.django import (
    dispatch_batch_on_commit,
    dispatch_on_commit,
)


class SendReceipt(Job, registry=Registry()):
    order: int


@pytest.fixture(autouse=True)
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    configure(tmp_path_factory)
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER)")
        cursor.execute("DELETE FROM orders")
    yield
    connections.close_all()


class Undone(Exception):
    pass


def dispatch_and_fail(job: Job, client: Client) -> None:
    dispatch_on_commit(job, client=client)
    raise Undone


def receipts(broker: ScriptedBroker) -> list[bytes]:
    return [info.job.payload for info in broker.jobs.values()]


def test_a_commit_pushes_and_a_rollback_forgets(broker: ScriptedBroker, client: Client) -> None:
    with transaction.atomic():
        handle = dispatch_on_commit(SendReceipt(order=1), client=client, delay=5)
        assert broker.calls == []
    assert handle.status().id == handle.id
    assert broker.jobs[handle.id].job.delay.seconds == 5
    with pytest.raises(Undone), transaction.atomic():
        dispatch_and_fail(SendReceipt(order=2), client)
    assert receipts(broker) == [b'{"order":1}']


def test_a_savepoint_takes_its_own_jobs_with_it(broker: ScriptedBroker, client: Client) -> None:
    with transaction.atomic():
        dispatch_on_commit(SendReceipt(order=1), client=client)
        with pytest.raises(Undone), transaction.atomic():
            dispatch_and_fail(SendReceipt(order=2), client)
        with transaction.atomic():
            dispatch_on_commit(SendReceipt(order=3), client=client)
        assert broker.calls == []
    assert receipts(broker) == [b'{"order":1}', b'{"order":3}']


def test_without_a_transaction_it_is_pushed_at_once(broker: ScriptedBroker, client: Client) -> None:
    handle = dispatch_on_commit("x", {"order": 1}, client=client)
    assert handle.id in broker.jobs


def test_many_are_pushed_in_one_call(broker: ScriptedBroker) -> None:
    with towline.clients.using(broker.address), transaction.atomic():
        handles = dispatch_batch_on_commit((SendReceipt(order=n) for n in range(50)), priority=3)
        assert broker.calls == []
    assert [handle.id for handle in handles] == list(broker.jobs)
    assert {info.job.priority for info in broker.jobs.values()} == {3}
    assert len(broker.called("Push")) == 1


def test_what_cannot_be_dispatched_is_refused_where_it_is_said(
    broker: ScriptedBroker, client: Client
) -> None:
    with pytest.raises(InvalidPayload), transaction.atomic():
        dispatch_on_commit(SendReceipt(order="1"), client=client)  # type: ignore[arg-type]
    assert broker.calls == []


def test_a_push_that_fails_is_told_unless_it_is_to_be_logged_only(
    broker: ScriptedBroker, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    broker.failures["Push"] = [invalid(("jobs[0].payload", "too large")) for _ in range(2)]
    with pytest.raises(InvalidArgument), transaction.atomic():
        dispatch_on_commit(SendReceipt(order=1), client=client)
    with transaction.atomic():
        dispatch_on_commit(SendReceipt(order=2), client=client, robust=True)
        dispatch_on_commit(SendReceipt(order=3), client=client)
    assert receipts(broker) == [b'{"order":3}']
    assert "too large" in caplog.text


def test_another_database_has_transactions_of_its_own(
    broker: ScriptedBroker, client: Client, tmp_path: Path
) -> None:
    name = str(tmp_path / "other.db")
    sqlite3.connect(name).close()
    connections.settings["other"] = {**connections.settings["default"], "NAME": name}
    try:
        with transaction.atomic(using="other"):
            with transaction.atomic():
                dispatch_on_commit(SendReceipt(order=1), client=client, using="other")
            assert broker.calls == []
        assert receipts(broker) == [b'{"order":1}']
    finally:
        connections["other"].close()
        del connections["other"]
        del connections.settings["other"]


def test_the_example_of_the_page_does_so(broker: ScriptedBroker) -> None:
    class Order:
        pk = 7

        def save(self) -> None:
            with connections["default"].cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (7)")

    text = (DOCS / "dispatch.md").read_text(encoding="utf-8")
    code = text.partition("```python title=Django\n")[2].partition("```")[0]
    with towline.clients.using(broker.address):
        exec(code, {"order": Order(), "SendReceipt": SendReceipt})
    assert receipts(broker) == [b'{"order":7}']
