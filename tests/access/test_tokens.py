"""Tokens while a broker serves: made, revoked, rotated, expired, and files that are no good."""

import asyncio
import logging
import time
from pathlib import Path

import grpc
import pytest

from tests.access.callers import World, bearer
from tests.access.forms import leased
from tests.access.senders import Sender, Tokens
from tests.support.calls import Calls, calls_to, failure_of, seconds
from tests.support.waiting import until
from towline.v1.job_pb2 import JOB_STATE_READY, Job
from towline.v1.queue_service_pb2 import (
    LEASE_OUTCOME_NOT_FOUND,
    LEASE_OUTCOME_OK,
    LEASE_OUTCOME_REJECTED,
    Ack,
    AckRequest,
    CancelJobRequest,
    GetJobRequest,
    Nack,
    NackRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError
from towline_broker.server.identity import tokens_file
from towline_broker.server.identity.tokens_file import Entry, TokensFile, UnreadableTokens
from towline_broker.server.serving import BrokerServer, running_broker

PUSH = PushRequest(jobs=[Job(queue="emails", type="T")])
WAIT = ReserveRequest(queues=[QueueChoice(name="emails")], wait=seconds(50), worker_id="w")


async def test_a_token_counts_from_the_moment_in_which_it_is_made_until_it_is_revoked(
    calls: Calls, tokens: Tokens
) -> None:
    token = tokens.make("mailer", push=["emails"])
    await Sender(calls, token).Push(PUSH)
    tokens.revoke("mailer")
    failure = await failure_of(Sender(calls, token).Push(PUSH))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert failure.reason == "UNAUTHENTICATED"
    assert "was revoked" in failure.message
    assert token not in failure.message


async def test_what_is_not_allowed_names_the_right_and_the_queue(
    calls: Calls, tokens: Tokens
) -> None:
    sender = Sender(calls, tokens.make("mailer", push=["emails"]))
    failure = await failure_of(sender.Push(PushRequest(jobs=[Job(queue="bills", type="T")])))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED
    assert failure.reason == "PERMISSION_DENIED"
    assert failure.message == "token:mailer lacks the right push for queue 'bills'"
    assert dict(failure.info.metadata) == {"right": "push", "queue": "bills"}


async def test_a_call_that_waits_ends_with_its_token(
    calls: Calls, tokens: Tokens, server: BrokerServer
) -> None:
    token = tokens.make("worker", work=["emails"])
    began = time.monotonic()
    waiting = asyncio.ensure_future(failure_of(Sender(calls, token).Reserve(WAIT)))
    await until(server.broker.operating.workers, "the call has come in")
    tokens.revoke("worker")
    failure = await waiting
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - began < 20
    first = Sender(calls, tokens.make("pusher", push=["emails"], work=["emails"]))
    await first.Push(PUSH)
    reply = await first.Reserve(ReserveRequest(queues=[QueueChoice(name="emails")]))
    assert [lease.attempt for lease in reply.leases] == [1]


async def test_a_call_waits_no_longer_than_its_token_lasts(calls: Calls, tokens: Tokens) -> None:
    """It is answered, so that its caller comes again with the token that it has by then."""
    sender = Sender(calls, tokens.make("worker", push=["emails"], work=["*"], lasts=1.0))
    job_id = (await sender.Push(PUSH)).results[0].job_id
    began = time.monotonic()
    wait = ReserveRequest(queues=[QueueChoice(name="idle")], wait=seconds(50))
    reply, job = await asyncio.gather(
        sender.Reserve(wait), sender.GetJob(GetJobRequest(id=job_id, wait=seconds(50)))
    )
    assert not reply.leases
    assert job.job.state == JOB_STATE_READY
    assert time.monotonic() - began < 20
    await until(lambda: refused(sender), "the token has run out")


async def refused(sender: Sender) -> bool:
    try:
        await sender.Push(PUSH)
    except grpc.aio.AioRpcError as error:
        return "token:worker has expired at" in str(error.details())
    return False


async def test_a_call_that_waits_is_repeated_when_rights_change(
    calls: Calls, tokens: Tokens, server: BrokerServer
) -> None:
    token = tokens.make("worker", work=["emails"])
    waiting = asyncio.ensure_future(failure_of(Sender(calls, token).Reserve(WAIT)))
    await until(server.broker.operating.workers, "the call has come in")
    tokens.give("worker", work=["bills"])
    failure = await waiting
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "CANNOT_VERIFY")
    again = await failure_of(Sender(calls, token).Reserve(WAIT))
    assert again.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_rotated_token_holds_the_leases_of_the_old_one(
    calls: Calls, tokens: Tokens
) -> None:
    old = Sender(calls, tokens.make("worker", push=["emails"], work=["emails"]))
    await old.Push(PUSH)
    (lease,) = (await old.Reserve(ReserveRequest(queues=[QueueChoice(name="emails")]))).leases
    tokens.revoke("worker")
    ack = AckRequest(acks=[Ack(lease_token=lease.lease_token)])
    other = Sender(calls, tokens.make("other", work=["emails"]))
    (refused,) = (await other.Ack(ack)).results
    assert refused.outcome == LEASE_OUTCOME_REJECTED
    assert refused.error.reason == "PERMISSION_DENIED"
    new = Sender(calls, tokens.make("worker", work=["emails"]))
    (settled,) = (await new.Ack(ack)).results
    assert settled.outcome == LEASE_OUTCOME_OK


async def test_a_mark_that_is_made_up_names_no_lease(calls: Calls, tokens: Tokens) -> None:
    holder = Sender(calls, tokens.make("worker", push=["emails"], work=["emails"]))
    thief = Sender(calls, tokens.make("thief", push=["emails"], work=["emails"]))
    await holder.Push(PushRequest(jobs=[Job(queue="emails", type="T")] * 2))
    reserve = ReserveRequest(queues=[QueueChoice(name="emails")])
    (lease,) = (await holder.Reserve(reserve)).leases
    (own,) = (await thief.Reserve(reserve)).leases
    place, _, grant = lease.lease_token.rpartition("/")
    mark = own.lease_token[-12:]
    for forged in (grant[:12] + mark, grant[:12]):
        nack = NackRequest(nacks=[Nack(lease_token=f"{place}/{forged}")])
        (result,) = (await thief.Nack(nack)).results
        assert result.outcome == LEASE_OUTCOME_NOT_FOUND
    ack = AckRequest(acks=[Ack(lease_token=lease.lease_token)])
    assert (await holder.Ack(ack)).results[0].outcome == LEASE_OUTCOME_OK


async def test_the_request_id_of_another_does_not_bring_his_leases(
    calls: Calls, tokens: Tokens
) -> None:
    holder = Sender(calls, tokens.make("worker", push=["emails"], work=["emails"]))
    other = Sender(calls, tokens.make("other", work=["emails"]))
    await holder.Push(PUSH)
    reserve = ReserveRequest(
        queues=[QueueChoice(name="emails")], worker_id="w" * 128, request_id="r" * 128
    )
    first, again = await holder.Reserve(reserve), await holder.Reserve(reserve)
    assert len(first.leases) == 1
    assert [each.lease_token for each in again.leases] == [
        each.lease_token for each in first.leases
    ]
    assert not (await other.Reserve(reserve)).leases


async def test_a_job_out_of_sight_is_not_waited_for(calls: Calls, tokens: Tokens) -> None:
    first = Sender(calls, tokens.make("pusher", push=["*"]))
    other = Sender(calls, tokens.make("other", push=["bills"]))
    job_id = (await first.Push(PUSH)).results[0].job_id
    for asked in (job_id, "00000000-0000-7000-8000-000000000000"):
        request = GetJobRequest(id=asked, wait=seconds(50))
        failure = await failure_of(other.GetJob(request, timeout=20))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.message == f"no job {asked} is stored or remembered"


async def test_that_a_queue_is_full_is_no_business_of_who_may_not_push_there(
    tokens: Tokens,
) -> None:
    settings = Settings(
        store="memory:",
        listen="127.0.0.1:0",
        auth={"tokens": tokens.path},
        core={"max_queue_depth": 1},
    )
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        pusher = Sender(calls, tokens.make("pusher", push=["emails"]))
        other = Sender(calls, tokens.make("other", push=["bills"]))
        await pusher.Push(PUSH)
        for _ in range(3):
            full = await failure_of(pusher.Push(PUSH))
            assert full.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            denied = await failure_of(other.Push(PUSH))
            assert denied.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_file_that_is_no_good_leaves_tokens_as_they_were(
    calls: Calls, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(calls, tokens.make("mailer", push=["emails"]))
    await sender.Push(PUSH)
    good = tokens.path.read_bytes()
    for content in (good[: len(good) // 2], b"", b"[]", None):
        caplog.clear()
        if content is None:
            tokens.path.unlink()
        else:
            tokens.path.write_bytes(content)
        for _ in range(3):
            await sender.Push(PUSH)
        said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
        assert len(said) == 1
        assert said[0].startswith(f"the tokens stay as they were: {tokens.path} ")
    tokens.path.write_bytes(good)
    tokens.revoke("mailer")
    assert (await failure_of(sender.Push(PUSH))).code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_token_is_revoked_also_if_the_file_could_not_be_read_for_a_moment(
    calls: Calls, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too many connections a broker cannot open files, which does not show in the file."""
    before = tokens.path.read_bytes()
    sender = Sender(calls, tokens.make("mailer", push=["emails"]))
    await sender.Push(PUSH)

    def fail(path: Path) -> list[Entry]:
        raise UnreadableTokens(f"{path} cannot be read: Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(tokens_file, "read_entries", fail)
        tokens.path.write_bytes(before)
        await sender.Push(PUSH)

    async def refused() -> bool:
        try:
            await sender.Push(PUSH)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAUTHENTICATED
        return False

    await until(refused, "the token is refused")


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_broker_without_a_good_file_does_not_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokens.json"
    if content is not None:
        path.write_text(content)
    settings = Settings(store="memory:", listen="127.0.0.1:0", auth={"tokens": path})
    with pytest.raises(ConfigError, match=rf"auth\.tokens: {path} "):
        BrokerServer(settings)


async def test_ids_of_many_jobs_are_looked_at_one_by_one(calls: Calls, tokens: Tokens) -> None:
    first = Sender(calls, tokens.make("pusher", push=["*"]))
    other = Sender(calls, tokens.make("other", push=["bills"]))
    jobs = [Job(queue=queue, type="T") for queue in ("emails", "bills", "emails")]
    ids = [result.job_id for result in (await first.Push(PushRequest(jobs=jobs))).results]
    cancelled = await other.CancelJob(CancelJobRequest(ids=ids))
    assert [result.outcome for result in cancelled.results] == [3, 1, 3]


async def test_leases_from_before_are_of_whoever_has_their_token(tokens: Tokens) -> None:
    """A broker is told to ask who calls while workers are at work."""
    settings = Settings(store="memory:", listen="127.0.0.1:0", auth={"tokens": tokens.path})
    worker = tokens.make("worker", push=["emails"], work=["emails"])
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        token = await leased(World(server, []), "emails")
        ack = AckRequest(acks=[Ack(lease_token=token)])
        reply = await calls.queue.Ack(ack, metadata=bearer(worker))
        assert reply.results[0].outcome == LEASE_OUTCOME_OK


def test_a_file_that_others_can_write_is_warned_of(
    tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    TokensFile(tokens.path)
    assert caplog.text == ""
    tokens.path.chmod(0o620)
    TokensFile(tokens.path)
    assert f"others than its owner can write {tokens.path}" in caplog.text
