"""P1, P2, P3, P5: a broker on a store of its own that is killed again and again under load.

`make kills` runs it a hundred times, with the figures on the screen; a plain test run a few times.
"""

import os
import random
import time
from pathlib import Path

import grpc
import pytest

from tests.faults.history import judge
from tests.faults.load import QUEUE, Load
from tests.support.broker_process import BrokerProcess
from towline.v1.admin_service_pb2 import StatsRequest, StatsResponse
from towline.v1.admin_service_pb2_grpc import AdminServiceStub

KILLS = int(os.environ.get("TOWLINE_KILLS", "4"))
SEED = int(os.environ.get("TOWLINE_SEED", str(random.SystemRandom().randrange(2**32))))
#: How long a broker lives, in seconds, from serving to its death.
LIFE = (0.05, 1.0)
DRAIN_SECONDS = 60.0


#: By kind of store; the segments of the journal are small, so that compaction goes on all the time.
STORES = {
    "sqlite": "sqlite:///{}/jobs.db",
    "file": "file:///{}/jobs?segment_bytes=65536&min_free_bytes=0",
}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(60 + DRAIN_SECONDS + 5 * KILLS)
def test_no_acknowledged_job_is_lost_or_run_again_whenever_the_broker_is_killed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BrokerProcess(STORES[kind].format(tmp_path), folder=tmp_path) as broker:
        load = killed_under_load(broker, KILLS, DRAIN_SECONDS)
        stats = figures_of(broker.address)
    verdict = judge(load.history)
    with capsys.disabled():
        print(f"\n{kind}: {KILLS} kills, seed {SEED}: {verdict}")  # noqa: T201 -- the figures are wanted
    assert load.failures == []
    assert verdict.kept, f"seed {SEED}: {verdict}"
    assert len(load.history.acked) == verdict.pushed
    totals, depth = stats.total.totals, stats.total.depth
    assert (totals.pushed, totals.completed) == (verdict.pushed, verdict.pushed)
    assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (0, 0, 0, 0)


def test_a_store_that_forgets_is_found_out(tmp_path: Path) -> None:
    with BrokerProcess("memory:", folder=tmp_path) as broker:
        load = killed_under_load(broker, kills=2, drain_seconds=2.0)
    assert judge(load.history).lost > 0


def killed_under_load(broker: BrokerProcess, kills: int, drain_seconds: float) -> Load:
    lives = random.Random(SEED)
    load = Load(broker.address, producers=2, workers=2)
    load.start()
    for _ in range(kills):
        time.sleep(lives.uniform(*LIFE))
        broker.kill()
        broker.start()
    load.stop_producing()
    load.drain(drain_seconds)
    return load


def figures_of(address: str) -> StatsResponse:
    with grpc.insecure_channel(address) as channel:
        return AdminServiceStub(channel).Stats(StatsRequest(queues=[QUEUE]))
