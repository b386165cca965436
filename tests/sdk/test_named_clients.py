"""Clients have names, one of them is the default, and jobs dispatch themselves by it."""

import asyncio
import os
from collections.abc import Iterator

import pytest

import towline
from tests.sdk.scripted_broker import ScriptedBroker, scripted_broker
from towline import Client, ConfigurationError, Job, Registry, job
from towline.named import Clients

registry = Registry()


class Mail(Job, registry=registry):
    queue = "emails"
    to: str


@job(registry=registry)
def report(month: str, pages: int = 1) -> None: ...


@pytest.fixture
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


def test_the_default_is_where_the_environment_says(
    clients: Clients, broker: ScriptedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_URL", broker.address)
    assert list(clients) == ["default"]
    assert clients.default.dispatch("x").id in broker.jobs
    assert clients.default is clients["default"]


def test_clients_have_names_and_any_can_be_the_default(
    clients: Clients, broker: ScriptedBroker
) -> None:
    with scripted_broker() as other:
        clients.add("default", broker.address)
        clients.add("reports", other.address, call_timeout=5)
        assert list(clients) == ["default", "reports"]
        assert ("reports" in clients, "other" in clients, len(clients)) == (True, False, 2)
        assert repr(clients) == "<clients default, reports; the default is default>"
        clients["reports"].dispatch("x")
        assert (len(broker.jobs), len(other.jobs)) == (0, 1)
        clients.default_name = "reports"
        clients.default.dispatch("x")
        assert (clients.default_name, len(broker.jobs), len(other.jobs)) == ("reports", 0, 2)
        clients.close()


async def test_each_name_has_a_client_for_asyncio_too(
    clients: Clients, broker: ScriptedBroker
) -> None:
    clients.add("reports", broker.address)
    client = clients.for_asyncio("reports")
    assert (await client.dispatch("x")).id in broker.jobs
    assert clients.for_asyncio("reports") is client
    await client.close()


@pytest.mark.parametrize("name", ["", None, 5])
def test_what_is_no_name_is_refused(name: str, clients: Clients) -> None:
    with pytest.raises(ConfigurationError, match="name: expected a string that is not empty"):
        clients.add(name, "127.0.0.1:1")


def test_an_unknown_name_is_told_with_those_that_there_are(clients: Clients) -> None:
    clients.add("reports", "127.0.0.1:1")
    expected = (
        r"there is no client 'emails'; there are default, reports: add it by towline\.clients"
    )
    with pytest.raises(ConfigurationError, match=expected):
        clients["emails"]
    with pytest.raises(ConfigurationError, match=expected):
        clients.default_name = "emails"
    with pytest.raises(ConfigurationError, match=expected):
        clients.for_asyncio("emails")


def test_a_wrong_address_is_told_when_it_is_used(clients: Clients) -> None:
    clients.add("reports", "http://x")
    with pytest.raises(ConfigurationError, match="expected host:port"):
        clients["reports"]


def test_another_broker_can_take_the_place_of_the_default_for_a_while(
    clients: Clients, broker: ScriptedBroker
) -> None:
    clients.add("default", broker.address)
    before = clients.default
    with scripted_broker() as other:
        with clients.using(other.address, call_timeout=5) as client:
            assert clients.default is client
            clients.default.dispatch("x")
        assert len(other.jobs) == 1
    assert clients.default is before
    with pytest.raises(towline.ClientClosed):
        client.dispatch("x")


async def test_jobs_dispatch_themselves_by_the_default(broker: ScriptedBroker) -> None:
    def from_a_thread() -> list[str]:
        with towline.clients.using(broker.address):
            handles = [
                Mail(to="a").dispatch(delay=5),
                report.dispatch("2026-01", pages=2),
                report.job(month="2026-02").dispatch(queue="slow"),
            ]
        return [handle.id for handle in handles]

    mail, first, second = await asyncio.to_thread(from_a_thread)
    assert broker.jobs[mail].job.queue == "emails"
    assert broker.jobs[mail].job.delay.seconds == 5
    assert broker.jobs[first].job.payload == b'{"month":"2026-01","pages":2}'
    assert broker.jobs[second].job.queue == "slow"
    with towline.clients.using(broker.address):
        third = await Mail(to="b").dispatch_async()
        fourth = await report.dispatch_async("2026-03")
        await towline.clients.for_asyncio().close()
    assert broker.jobs[third.id].job.payload == b'{"to":"b"}'
    assert broker.jobs[fourth.id].job.type == "report"


def test_a_forked_process_has_clients_of_its_own(clients: Clients, broker: ScriptedBroker) -> None:
    clients.add("default", broker.address)
    with clients._lock:  # as another thread may hold it at that moment
        child = os.fork()
        if child == 0:
            made = isinstance(clients.default, Client)
            os._exit(0 if made else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
