"""P1, P3, P5, Stats: the connection to a database ends at a COMMIT, again and again: sometimes the
server never hears of it, sometimes its answer is lost. What was done is not done twice, what was
not is not taken for done, and nobody outside hears of any of it.

`make faults` does it for longer, over every database.
"""

import os
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.faults.durable_stores import SHARED
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import MIXED
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess
from tests.support.databases import MariaDB, PostgreSQL
from tests.support.proxy import CutAt, End, Proxy
from tests.support.stores import with_options

COMMITS = {"postgresql": PostgreSQL.commit, "mariadb": MariaDB.commit}
#: A plain test run leaves out what differs little from it.
KINDS = list(COMMITS) if "TOWLINE_STORE_FAULTS" in os.environ else ["postgresql"]
CUTS = 60 * size("STORE_FAULTS", 1)
#: Between two cuts, in seconds.
PAUSE = (0.0, 0.1)
DRAIN_SECONDS = 60.0
#: Nobody but the broker loses anything: so no attempt may go unseen.
HABITS = replace(MIXED, lease=5.0, abandon=0.0, operated=0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120 + DRAIN_SECONDS + CUTS)
def test_every_promise_is_kept_when_commits_and_their_answers_are_lost(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with SHARED[kind](tmp_path) as store, Proxy.to_store(store.url, seed=seed()) as proxy:
        url = with_options(proxy.behind(store.url), "sslmode=disable")
        with (
            BrokerProcess(url, folder=tmp_path) as broker,
            Load([broker.address], tmp_path, seed=seed(), habits=HABITS) as load,
        ):
            cut_commits(proxy, COMMITS[kind])
            verdict = load.finish(DRAIN_SECONDS, replace(store.assumptions, order_slack=None))
        cuts = proxy.figures().cuts
    figures.prove(f"lost commits, {kind}", verdict, cuts=cuts)


def cut_commits(proxy: Proxy, commit: str) -> None:
    """Returns when so many were cut, one after the other."""
    chance, deadline = Random(seed()), time.monotonic() + 60 + CUTS
    while (cuts := proxy.figures().cuts) < CUTS:
        assert time.monotonic() < deadline, f"only {cuts} of {CUTS} commits were cut"
        done, end = chance.random() < 0.5, chance.choice(tuple(End))
        proxy.fail(CutAt(commit, done, end))
        time.sleep(chance.uniform(*PAUSE))
    proxy.heal()
