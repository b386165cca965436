"""P1 to P7, Stats: a broker that is killed again and again under load.

`make faults` does it many times over every durable store, with the figures on the screen; a plain
test run a few times.
"""

import os
import random
import time
from pathlib import Path

import pytest

from tests.faults.durable_stores import EVERY, without_the_like
from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import MIXED, PLAIN, Habits
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess

#: Over each store, with each kind of load.
KILLS = size("KILLS", 3)
#: So many at most in one history: then the store is judged, and a new one begun.
KILLS_IN_A_ROUND = 40
#: How long a broker lives, in seconds, from serving to its death.
LIFE = (0.05, 1.0)
DRAIN_SECONDS = 90.0

KINDS = list(EVERY) if "TOWLINE_KILLS" in os.environ else without_the_like(EVERY)


@pytest.mark.parametrize("habits", [PLAIN, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60 + DRAIN_SECONDS + 6 * KILLS)
def test_every_promise_is_kept_whenever_the_broker_is_killed(
    kind: str, habits: Habits, tmp_path: Path, figures: Figures
) -> None:
    chance = random.Random(seed())
    for number in range(0, KILLS, KILLS_IN_A_ROUND):
        kills = min(KILLS_IN_A_ROUND, KILLS - number)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        with (
            EVERY[kind](folder) as store,
            BrokerProcess(store.url, folder=folder) as broker,
            Load([broker.address], folder, seed=chance.getrandbits(32), habits=habits) as load,
        ):
            for _ in range(kills):
                time.sleep(chance.uniform(*LIFE))
                assert broker.returncode is None, f"it ended by itself:\n{broker.log}"
                broker.kill()
                broker.start()
            verdict = load.finish(DRAIN_SECONDS, store.assumptions)
        figures.prove(f"kill -9 of the broker, {kind}", verdict, kills=kills)


@pytest.mark.timeout(90)
def test_a_store_that_forgets_is_found_out(tmp_path: Path) -> None:
    with (
        BrokerProcess("memory:", folder=tmp_path) as broker,
        Load([broker.address], tmp_path, seed=seed(), habits=PLAIN) as load,
    ):
        load.wait_for_acknowledged(500)
        broker.kill()
        broker.start()
        load.wait_for_acknowledged(500)
        verdict = load.finish(20.0, Assumptions(order_slack=None))
    assert verdict.breaches("lost") > 0
    assert verdict.breaches("totals.pushed") == 1
