"""P1, P2, P3: several broker processes on one address and one store, of which one after the other
is killed under load."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.history import judge
from tests.faults.load import Load
from tests.faults.test_broker_kills import figures_of
from tests.support.broker_process import BrokerProcess
from tests.support.servers.postgres import PostgresServer

PROCESSES = 3
KILLS = 2
SEED = int(os.environ.get("TOWLINE_SEED", str(random.SystemRandom().randrange(2**32))))
START_SECONDS = 30.0
DRAIN_SECONDS = 60.0


@pytest.mark.timeout(180)
def test_nothing_is_lost_or_run_again_and_each_is_replaced(
    tmp_path: Path,
) -> None:
    chance = random.Random(SEED)
    several = ("--processes", str(PROCESSES))
    with (
        PostgresServer() as server,
        BrokerProcess(server.create_database(), *several, folder=tmp_path) as broker,
    ):
        load = Load(broker.address, producers=2, workers=3)
        load.start()
        for kill in range(1, KILLS + 1):
            time.sleep(chance.uniform(0.2, 0.8))
            os.kill(chance.choice(sorted(broker.members)), signal.SIGKILL)
            wait_for_replacements(broker, kill)
        load.stop_producing()
        load.drain(DRAIN_SECONDS)
        stats = figures_of(broker.address)
        assert len(broker.members) == PROCESSES
        assert broker.stop() == 0
    verdict = judge(load.history)
    assert load.failures == []
    assert verdict.kept, f"seed {SEED}: {verdict}"
    assert len(load.history.acked) == verdict.pushed > 0
    totals, depth = stats.total.totals, stats.total.depth
    assert (totals.pushed, totals.completed) == (verdict.pushed, verdict.pushed)
    assert (depth.scheduled, depth.ready, depth.leased, depth.dead) == (0, 0, 0, 0)


def wait_for_replacements(broker: BrokerProcess, count: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while broker.log.count("serves in its place") < count:
        assert time.monotonic() < deadline, broker.log
        time.sleep(0.02)
