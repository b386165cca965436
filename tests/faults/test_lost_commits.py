"""P1, P3, P5, Stats: the connection to a database ends at a COMMIT, again and again: sometimes the
server never hears of it, sometimes its answer is lost. What was done is not done twice, what was
not is not taken for done, and nobody outside hears of any of it.

`make faults` does it for longer, over every database.
"""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.faults.durable_stores import SHARED
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import MIXED
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess
from tests.support.commit_proxy import CommitProxy, Cut

COMMITS = {"postgresql": b"COMMIT\0", "mariadb": b"\x03COMMIT"}
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
    with (
        SHARED[kind](tmp_path) as store,
        lossy(store.url, COMMITS[kind]) as (proxy, enough),
        BrokerProcess(proxy.url, folder=tmp_path) as broker,
        Load([broker.address], tmp_path, seed=seed(), habits=HABITS) as load,
    ):
        assert enough.wait(60 + CUTS), f"only {proxy.cuts} of {CUTS} commits were cut"
        verdict = load.finish(DRAIN_SECONDS, replace(store.assumptions, order_slack=None))
    figures.prove(f"lost commits, {kind}", verdict, cuts=proxy.cuts)


@contextmanager
def lossy(url: str, commit: bytes) -> Iterator[tuple[CommitProxy, threading.Event]]:
    """A proxy on a loop of its own, and what is set once it has cut so many."""
    proxy, done, over = CommitProxy(url, commit), threading.Event(), threading.Event()
    begun = threading.Event()

    async def work() -> None:
        chance = Random(seed())
        async with proxy:
            begun.set()
            while not over.is_set():
                if proxy.cuts >= CUTS:
                    done.set()
                else:
                    proxy.cut_next(chance.choice(tuple(Cut)))
                await asyncio.sleep(chance.uniform(*PAUSE))

    thread = threading.Thread(target=asyncio.run, args=(work(),))
    thread.start()
    try:
        assert begun.wait(10), "the proxy does not begin"
        yield proxy, done
    finally:
        over.set()
        thread.join()
