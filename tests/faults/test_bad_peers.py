"""Peers that break the rules, or keep to them without mercy, over real sockets: a good client goes
on meanwhile, and afterwards the broker has its memory back.

    TOWLINE_ATTACK_SECONDS=20 make faults ARGS=bad-peers
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import psutil  # type: ignore[import-untyped]
import pytest

from tests.faults.bad_peers import ATTACKS, RESERVE
from tests.faults.harness.figures import Figures, size
from tests.faults.overload import Memory, quantile
from tests.support import http2
from tests.support.broker_process import BrokerProcess
from tests.support.servers.process import wait_until
from towline.ids import uuid7
from towline.v1.admin_service_pb2 import StatsRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import (
    LEASE_OUTCOME_OK,
    Ack,
    AckRequest,
    PushRequest,
    QueueChoice,
    ReserveRequest,
)
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

SECONDS = size("ATTACK_SECONDS", 0)
#: Of each attack in a run of all tests.
SHORT = 0.2
#: What a call of the good client may take at most, in seconds, on a machine that others use too.
SLOWEST = 15.0
#: Bytes that the broker may have come to need more, once all is over.
MOST_GROWTH = 192 << 20
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


class GoodClient:
    """Pushes a job, gets it and acknowledges it, again and again. As a context manager."""

    def __init__(self, address: str) -> None:
        self.took: list[float] = []
        self.failure: BaseException | None = None
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "GoodClient":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with grpc.insecure_channel(self._address, OPTIONS) as channel:
                stub = QueueServiceStub(channel)
                while not self._over.is_set():
                    self._round(stub)
        except BaseException as error:
            self.failure = error

    def _round(self, stub: QueueServiceStub) -> None:
        job_id = uuid7()
        self._timed(stub.Push, PushRequest(jobs=[Job(id=job_id, queue="good", type="T")]))
        reserve = ReserveRequest(queues=[QueueChoice(name="good")])
        leases = self._timed(stub.Reserve, reserve).leases
        assert [lease.job.id for lease in leases] == [job_id]
        ack = AckRequest(acks=[Ack(lease_token=leases[0].lease_token)])
        assert self._timed(stub.Ack, ack).results[0].outcome == LEASE_OUTCOME_OK

    def _timed(self, call: Any, request: Any) -> Any:
        began = time.monotonic()
        reply = call(request, timeout=SLOWEST)
        self.took.append(time.monotonic() - began)
        return reply


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as broker:
        yield broker


def at_rest(broker: BrokerProcess, most: int, seconds: float = 20.0) -> int:
    """Bytes resident, once that is no more than ``most``, or it does not become so."""
    process = psutil.Process(broker.pid)
    deadline = time.monotonic() + seconds
    while (now := process.memory_info().rss) > most and time.monotonic() < deadline:
        time.sleep(0.1)
    return int(now)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.timeout(120 + 4 * SECONDS)
def test_a_bad_peer_hurts_nobody_else(name: str, broker: BrokerProcess, figures: Figures) -> None:
    before = psutil.Process(broker.pid).memory_info().rss
    command = [sys.executable, "-m", "tests.faults.bad_peers", name, broker.address]
    with GoodClient(broker.address) as good, Memory(broker.pid) as memory:
        time.sleep(SHORT / 4)
        calm = len(good.took)
        done = subprocess.run([*command, str(SECONDS or SHORT)], stdout=subprocess.PIPE, check=True)
    after = at_rest(broker, before + MOST_GROWTH)
    figures.show(
        f"bad peer: {name}",
        done=json.loads(done.stdout)["done"],
        good_calls=len(good.took) - calm,
        p50_ms=round(quantile(good.took[calm:], 0.5) * 1e3, 1),
        p99_ms=round(quantile(good.took[calm:], 0.99) * 1e3, 1),
        memory_mib=f"{before >> 20} -> {memory.most >> 20} -> {after >> 20}",
    )
    assert good.failure is None, f"{name}: {good.failure}"
    assert len(good.took) > calm
    assert after < before + MOST_GROWTH
    # Nothing of it is a defect of the broker.
    assert "Traceback" not in broker.log


def test_leases_that_are_never_read_come_back(broker: BrokerProcess) -> None:
    """A worker that gives its leases no room to be sent gets them, for all that the broker knows;
    when it goes, they come back at once."""
    with grpc.insecure_channel(broker.address, OPTIONS) as channel:
        stub = QueueServiceStub(channel)
        stub.Push(PushRequest(jobs=[Job(queue="unread", type="T")]))
        request = ReserveRequest(queues=[QueueChoice(name="unread")])
        request.lease.FromSeconds(3_600)
        with http2.greeted(broker.address, (http2.INITIAL_WINDOW, 0)) as peer:
            peer.sendall(http2.whole_call(1, RESERVE, request.SerializeToString()))
            stats = StatsRequest(queues=["unread"])
            admin = AdminServiceStub(channel)
            wait_until(lambda: admin.Stats(stats).total.depth.leased == 1, "the job is leased")
            assert not stub.Reserve(request, timeout=SLOWEST).leases
        request.wait.FromSeconds(5)
        assert len(stub.Reserve(request, timeout=SLOWEST + 5).leases) == 1
