"""The clients against a real broker: what they promise together."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from towline import (
    AsyncClient,
    CancelOutcome,
    Client,
    Exponential,
    InvalidArgument,
    Job,
    JobFailed,
    JobRequest,
    JobState,
    NotFound,
    Registry,
)
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Lease


class Mail(Job, registry=Registry()):
    queue = "emails"
    max_attempts = 2
    backoff = 0
    timeout = 30
    retention = 60
    to: str
    at: datetime | None = None

    def unique_key(self) -> str:
        return self.to


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as server:
        yield server


@pytest.fixture
def client(server: BrokerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def reserve(client: Client, queue: str) -> Lease:
    """Lease the next job of a queue, as a worker does."""
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name=queue)])
    request.wait.seconds = 10
    [lease] = client.queue_service.Reserve(request, timeout=20).leases
    return lease


def succeed(client: Client, queue: str, result: bytes = b"") -> None:
    ack = pb.Ack(lease_token=reserve(client, queue).lease_token, result=result)
    client.queue_service.Ack(pb.AckRequest(acks=[ack]), timeout=10)


def fail(client: Client, queue: str) -> None:
    nack = pb.Nack(lease_token=reserve(client, queue).lease_token)
    nack.failure.type, nack.failure.message, nack.failure.trace = "OSError", "no route", "at x"
    client.queue_service.Nack(pb.NackRequest(nacks=[nack]), timeout=10)


def test_a_job_arrives_at_the_worker_as_it_was_dispatched(client: Client) -> None:
    mail = Mail(to="arrives", at=datetime(2026, 1, 1, tzinfo=UTC))
    handle = client.dispatch(mail, queue="arrives", headers={"a": "b"}, priority=3)
    lease = reserve(client, "arrives")
    definition = Mail.__towline_definition__
    assert definition is not None
    assert definition.decode(lease.job.payload, lease.job.content_type) == mail
    assert (lease.job.id, lease.job.type, lease.job.priority) == (handle.id, "Mail", 3)
    assert dict(lease.job.headers) == {"a": "b"}
    assert lease.job.timeout.seconds == 30
    assert handle.status().state is JobState.LEASED


def test_a_result_comes_back(client: Client) -> None:
    handle = client.dispatch("x", queue="results")
    succeed(client, "results", b'{"pages": 3}')
    assert handle.result(timeout=10) == {"pages": 3}
    assert handle.status().state is JobState.SUCCEEDED
    assert handle.cancel() is CancelOutcome.ALREADY_ENDED


async def test_a_result_that_is_awaited_comes_as_soon_as_it_is_there(
    server: BrokerProcess, client: Client
) -> None:
    async with AsyncClient(server.address) as async_client:
        handle = await async_client.dispatch("x", queue="awaited")
        result = asyncio.create_task(handle.result(timeout=30))
        await asyncio.to_thread(succeed, client, "awaited", b'"done"')
        assert await asyncio.wait_for(result, 5) == "done"


def test_a_job_out_of_attempts_raises_its_last_failure(client: Client) -> None:
    handle = client.dispatch(Mail(to="fails"), queue="fails")
    fail(client, "fails")
    fail(client, "fails")
    with pytest.raises(JobFailed, match=r"\(ATTEMPTS_EXHAUSTED\): OSError: no route") as caught:
        handle.result(timeout=10)
    assert caught.value.trace == "at x"
    status = handle.status()
    assert (status.attempt, status.dead_reason) == (2, "ATTEMPTS_EXHAUSTED")


def test_a_unique_job_is_stored_once(client: Client) -> None:
    first = client.dispatch(Mail(to="once"), queue="unique")
    second = client.dispatch(Mail(to="once"), queue="unique")
    other = client.dispatch(Mail(to="other"), queue="unique")
    assert (first.created, second.created, other.created) == (True, False, True)
    assert second.id == first.id
    assert first.cancel() is CancelOutcome.CANCELLED
    assert client.dispatch(Mail(to="once"), queue="unique").created


def test_every_option_is_one_that_the_broker_takes(client: Client) -> None:
    handle = client.dispatch(
        "x",
        {},
        queue="options",
        at=datetime.now(UTC) + timedelta(hours=1),
        priority=-(2**31),
        max_attempts=1000,
        backoff=Exponential(initial=0, multiplier=100, maximum=timedelta(days=366)),
        jitter=1,
        timeout=0.001,
        expires_in=timedelta(days=1),
        retention=timedelta(days=366),
        unique_key="k" * 256,
        unique_for=timedelta(days=366),
        headers={"a": "b"},
    )
    assert handle.status().state is JobState.SCHEDULED
    for backoff in (5, timedelta(seconds=5), [0, 1, 2], (timedelta(days=366),), [1] * 100):
        assert client.dispatch("x", queue="options", backoff=backoff).created


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("queue", {"queue": "q" * 129}),
        ("retention", {"retention": timedelta(days=367)}),
        ("unique_key", {"unique_key": "k" * 257}),
        ("unique_for", {"unique_for": 5}),
        ("delay", {"delay": timedelta(days=4000)}),
        ("delay", {"delay": timedelta.max}),
        ("run_at", {"at": datetime(9999, 1, 1, tzinfo=UTC)}),
        ("headers", {"headers": {"a": "x" * 9000}}),
        ("retry.delays.delays[1]", {"backoff": [1, timedelta(days=367)]}),
        ("retry.exponential.max", {"backoff": Exponential(maximum=timedelta(days=367))}),
    ],
)
def test_what_is_beyond_a_limit_of_the_broker_is_named(
    field: str, options: dict[str, object], client: Client
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.dispatch("x", **options)  # type: ignore[call-overload]
    assert [violation.field for violation in caught.value.violations] == [field]
    jobs = [JobRequest("x"), JobRequest("x", **options)]  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=rf"^jobs\[1\]\.{field[:5]}"):
        client.dispatch_batch(jobs)


def test_a_large_batch_is_stored_as_a_whole_and_in_order(client: Client) -> None:
    handles = client.dispatch_batch(
        (JobRequest("x", {"n": n, "pad": "x" * 3000}) for n in range(2500)), queue="large"
    )
    assert len({handle.id for handle in handles}) == 2500
    assert all(handle.created for handle in handles)
    request = pb.ReserveRequest(queues=[pb.QueueChoice(name="large")], max_jobs=1000)
    arrived = [
        lease.job.id
        for _ in range(3)
        for lease in client.queue_service.Reserve(request, timeout=20).leases
    ]
    assert arrived == [handle.id for handle in handles]


def test_an_unknown_job_is_not_found(client: Client) -> None:
    unknown = "01890000-0000-7000-8000-000000000001"
    with pytest.raises(NotFound, match=unknown):
        client.get(unknown)
    assert client.cancel(unknown) == {unknown: CancelOutcome.NOT_FOUND}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_producer_sees_no_failure_when_the_broker_restarts(tmp_path: Path, how: str) -> None:
    with (
        BrokerProcess(f"sqlite:///{tmp_path}/store.db", folder=tmp_path) as server,
        Client(server.address, call_timeout=30) as client,
    ):
        before = client.dispatch("x", queue="kept")
        getattr(server, how)()
        server.start()
        after = client.dispatch("x", queue="kept")
        for handle in (before, after):
            succeed(client, "kept", b"1")
            assert handle.result(timeout=10) == 1
