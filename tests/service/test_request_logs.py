"""What the log tells of a call: its id, its jobs, its worker; and who did what to a queue."""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.support.faulty_driver import FaultyDriver
from tests.support.pages import blocks
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as pb
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2_grpc import QueueServiceStub
from towline_broker.server import logs
from towline_broker.server.serving import running_broker

#: What docs/logs.md shows as it is here.
SAME = ("level", "logger", "method", "code", "queues", "count")
SECRET = "the-secret-of-the-test"  # not to be found in a log


def like(event: dict[str, Any]) -> str:
    """The message, without what is another each time."""
    message = event["message"]
    for name in ("peer", "worker", "jobs"):
        message = message.replace("".join(event[name]), name)
    return re.sub(r"[\d.]+ ms", "0 ms", message)


class Log:
    """What is written while it is open."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, method: str) -> dict[str, Any]:
        [event] = [each for each in self.events if each.get("method", "").endswith("/" + method)]
        return event


@contextmanager
def logging_to_memory(monkeypatch: pytest.MonkeyPatch, level: str, form: str) -> Iterator[Log]:
    root, ours = logging.getLogger(), logging.getLogger("towline")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        logs.configure_logs(level, form)
    try:
        yield Log(stream)
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


async def use_queue(address: str) -> str:
    """Pushes a job with id x and works it off; returns the grant of its lease."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = QueueServiceStub(channel)
        job = Job(queue="emails", type="T", payload=SECRET.encode())
        await stub.Push(pb.PushRequest(jobs=[job]), metadata=(("x-request-id", "order-7"),))
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name="emails")], worker_id="w-1")
        [lease] = (await stub.Reserve(request)).leases
        acks = [pb.Ack(lease_token=lease.lease_token, result=SECRET.encode())]
        await stub.Ack(pb.AckRequest(acks=acks))
        return str(lease.lease_token.rpartition("/")[2])


async def test_a_call_is_logged_with_its_id_its_queue_its_jobs_and_its_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with logging_to_memory(monkeypatch, "debug", "json") as log:
        async with running_broker() as server:
            grant = await use_queue(str(server.address))
    push, reserve, ack = (log.of(name) for name in ("Push", "Reserve", "Ack"))
    assert push["request"] == "order-7"
    assert push["queues"] == ["emails"]
    assert push["count"] == 1
    assert push["jobs"] == reserve["jobs"] == ack["jobs"]
    assert reserve["worker"] == "w-1"
    assert {push["code"], reserve["code"], ack["code"]} == {"OK"}
    assert len({push["request"], reserve["request"], ack["request"]}) == 3
    assert push["milliseconds"] > 0
    assert SECRET not in log.text
    assert grant not in log.text
    (lines,) = blocks("docs/logs.md", "json")
    shown = json.loads(lines.splitlines()[0])
    assert list(shown) == list(reserve)
    assert [shown[name] for name in SAME] == [reserve[name] for name in SAME]
    assert like(shown) == like(reserve)


async def test_at_level_info_only_what_is_done_to_queues_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with logging_to_memory(monkeypatch, "info", "json") as log:
        async with running_broker() as server:
            await use_queue(str(server.address))
            async with grpc.aio.insecure_channel(str(server.address)) as channel:
                stub: Any = AdminServiceStub(channel)
                await stub.PauseQueue(admin.PauseQueueRequest(queue="emails"))
                await stub.Stats(admin.StatsRequest())
    told = [event for event in log.events if event["logger"] == "towline.access"]
    assert [event["method"] for event in told] == ["/towline.v1.AdminService/PauseQueue"]
    assert told[0]["queues"] == ["emails"]
    assert told[0]["peer"].startswith("ipv4:127.0.0.1")
    # People read the same.
    assert "PauseQueue from ipv4:127.0.0.1" in told[0]["message"]
    assert told[0]["message"].endswith("; queues emails")


@pytest.mark.parametrize(("named", "known"), [("order-7", True), ("x" * 65, False), ("a b", False)])
async def test_whatever_goes_wrong_in_a_call_is_logged_with_its_id(
    monkeypatch: pytest.MonkeyPatch, named: str, known: bool
) -> None:
    driver = FaultyDriver()
    driver.errors["push"] = RuntimeError(SECRET)
    with logging_to_memory(monkeypatch, "info", "console") as log:
        async with (
            running_broker(driver=driver) as server,
            grpc.aio.insecure_channel(str(server.address)) as channel,
        ):
            stub: Any = QueueServiceStub(channel)
            request = pb.PushRequest(jobs=[Job(queue="q", type="T")])
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stub.Push(request, metadata=(("x-request-id", named),))
    reference = str(failed.value.details()).rsplit(" ", 1)[1]
    assert (reference == named) is known
    first = log.text.splitlines()[0]
    assert f"reference {reference}" in first
    assert first.endswith(f"[request {reference}]")


async def test_a_refused_call_is_logged_with_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with logging_to_memory(monkeypatch, "debug", "json") as log:
        async with (
            running_broker() as server,
            grpc.aio.insecure_channel(str(server.address)) as channel,
        ):
            stub: Any = QueueServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.Push(pb.PushRequest(jobs=[Job(queue="no name", type="T")]))
    assert log.of("Push")["code"] == "INVALID_ARGUMENT"
