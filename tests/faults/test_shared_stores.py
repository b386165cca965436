"""P1 to P7, Stats: two brokers and workers in processes of their own on one store; a broker and a
worker are killed under load, and of a Cluster, in one of its two runs, a master.

`make faults` runs it with a hundred thousand jobs over each store and shows the figures; a
plain test run with a few thousand.
"""

import os
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.durable_stores import SHARED, Store, redis_cluster, without_the_like
from tests.faults.harness.figures import LOST_BY_A_FAILOVER, Figures, seed, size
from tests.faults.harness.habits import MIXED, PLAIN
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess

JOBS = size("SHARED_JOBS", 1500)
WORKERS = 4
#: What the slowest store works off with certainty, in jobs a second.
SLOWEST = 100

STORES = SHARED | {"redis_cluster": redis_cluster}
KINDS = list(STORES) if "TOWLINE_SHARED_JOBS" in os.environ else without_the_like(STORES)
HABITS = {"plain": replace(PLAIN, handling=0.02, push_batch=100), "mixed": MIXED}


@pytest.mark.parametrize("habits", HABITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(180 + 3 * JOBS / SLOWEST)
def test_every_promise_is_kept_when_broker_worker_and_master_are_killed(
    kind: str, habits: str, tmp_path: Path, figures: Figures
) -> None:
    chance = random.Random(seed())
    fails_over = kind == "redis_cluster" and habits == "mixed"
    with (
        STORES[kind](tmp_path) as store,
        store.broker(tmp_path, "a") as one,
        store.broker(tmp_path, "b") as two,
        Load(
            [one.address, two.address],
            tmp_path,
            seed=seed(),
            workers=0,
            worker_processes=WORKERS,
            habits=HABITS[habits],
        ) as load,
    ):
        start = time.monotonic()
        for fault in _faults(load, one, store if fails_over else None):
            load.wait_for_acknowledged(chance.randrange(JOBS // 8, JOBS // 4), JOBS / SLOWEST)
            fault()
        load.wait_for_acknowledged(JOBS // 4, JOBS / SLOWEST)
        verdict = load.finish(60 + JOBS / SLOWEST, store.shared)
        took = time.monotonic() - start
    rate = round(verdict.counts["acked"] / took)
    what = f"kill -9 of broker and worker, {kind}, {habits}"
    if fails_over:
        # What a master had acknowledged and not yet sent to its replica is gone with it, a push as
        # well as an ack: Redis promises no more, and the figures say how much it was.
        figures.bear(what, verdict, LOST_BY_A_FAILOVER, jobs_a_second=rate)
    else:
        figures.prove(what, verdict, jobs_a_second=rate)


def _faults(
    load: Load, broker: BrokerProcess, failing_over: Store | None
) -> list[Callable[[], object]]:
    faults: list[Callable[[], object]] = [load.processes[0].kill, broker.kill]
    if failing_over is not None and failing_over.server is not None:
        # Which one it is, is asked when it is killed.
        server = failing_over.server
        faults.append(lambda: server().kill())
    return [*faults, broker.start]
