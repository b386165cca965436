"""P1 to P7, Stats: several broker processes on one address and one store, of which one after the
other is killed under load."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.durable_stores import postgresql
from tests.faults.harness.figures import Figures, seed
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess

PROCESSES = 3
KILLS = 2
START_SECONDS = 30.0


@pytest.mark.timeout(180)
def test_every_promise_is_kept_and_each_is_replaced(tmp_path: Path, figures: Figures) -> None:
    chance = random.Random(seed())
    several = ("--processes", str(PROCESSES))
    with (
        postgresql(tmp_path) as store,
        BrokerProcess(store.url, *several, folder=tmp_path) as broker,
        Load([broker.address], tmp_path, seed=seed(), workers=3) as load,
    ):
        for kill in range(1, KILLS + 1):
            time.sleep(chance.uniform(0.2, 0.8))
            os.kill(chance.choice(sorted(broker.members)), signal.SIGKILL)
            wait_for_replacements(broker, kill)
        load.wait_for_acknowledged(500)
        verdict = load.finish(assumptions=store.shared)
        assert len(broker.members) == PROCESSES
        assert broker.stop() == 0
    figures.prove("kill -9 of one of several processes, postgresql", verdict, kills=KILLS)


def wait_for_replacements(broker: BrokerProcess, count: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while broker.log.count("serves in its place") < count:
        assert time.monotonic() < deadline, broker.log
        time.sleep(0.02)
