"""A whole broker that asks who calls, as programs and workers meet it."""

import time
from collections.abc import Iterator

import pytest

from tests.access.senders import Tokens
from tests.support.broker_process import BrokerProcess
from towline import Client, PermissionDenied, Registry, Unauthenticated, Worker, job

registry = Registry()


@job(type="T", queue="emails", registry=registry)
def handled() -> str:
    return "done"


@pytest.fixture
def broker(tokens: Tokens) -> Iterator[BrokerProcess]:
    asks = {"TOWLINE_AUTH__TOKENS": str(tokens.path)}
    with BrokerProcess("memory:", environment=asks) as broker:
        yield broker


def test_what_is_not_allowed_is_an_error_at_once_and_ends_a_worker(
    broker: BrokerProcess, tokens: Tokens
) -> None:
    pusher = tokens.make("pusher", push=["emails"])
    worker = tokens.make("worker", work=["emails"])
    began = time.monotonic()
    with Client(broker.address) as nobody, pytest.raises(Unauthenticated, match="TOWLINE_TOKEN"):
        nobody.dispatch("T", {}, queue="emails")
    with Client(broker.address, token=worker) as client, pytest.raises(PermissionDenied) as denied:
        client.dispatch("T", {}, queue="emails")
    assert str(denied.value) == "token:worker lacks the right push for queue 'emails'"
    assert denied.value.reason == "PERMISSION_DENIED"
    with (
        Client(broker.address, token=pusher) as client,
        pytest.raises(PermissionDenied, match="the right work for"),
    ):
        Worker(client, queues=["emails"], registry=registry).run()
    assert time.monotonic() - began < 10, "what cannot help was tried again"
    with (
        Client(broker.address, token=pusher) as client,
        Client(broker.address, token=worker) as works,
        Worker(works, queues=["emails"], registry=registry),
    ):
        assert client.dispatch("T", {}, queue="emails").result(timeout=20) == "done"
    for token in (pusher, worker):
        assert token not in broker.log
        assert token[4:] not in broker.log
    assert "refused /towline.v1.QueueService/Push from unknown" in broker.log
    assert "in another terminal that has a token in TOWLINE_TOKEN" in broker.output
