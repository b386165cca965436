"""P1, P3: the SDK's client and worker on bad networks repeat by themselves what has to be repeated.

`make network-faults` does it for longer, with the figures on the screen.
"""

import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Self

import pytest

from tests.faults.bad_networks import BAD_TIMES, bad_times
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import Link
from tests.faults.places import EMBEDDED
from tests.faults.sdk_worker import TYPE, sdk_worker
from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Proxy
from tests.support.servers.process import wait_until
from towline import CallFailed, Client, JobHandle
from towline.v1.admin_service_pb2 import Figures as TotalFigures
from towline.v1.admin_service_pb2 import StatsRequest

#: How often everything happens that a network can do; 0: only some of it.
ROUNDS = size("NETWORK_ROUNDS", 0)
QUEUE = "sdk"
#: All seconds.
PAUSE = 0.02
BACK_SECONDS = 15.0
DRAIN_SECONDS = 60.0
LONGEST = max(ROUNDS, 1) * len(BAD_TIMES) * (2.0 + BACK_SECONDS)


class Producers:
    """Threads that dispatch one job after the other; what failed is dispatched again as it was."""

    def __init__(self, address: str, threads: int) -> None:
        self.handles: list[JobHandle] = []
        self.failures: Counter[str] = Counter()
        self._client = Client(address, call_timeout=20.0)
        self._going = threading.Event()
        self._going.set()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    def stop(self) -> None:
        self._going.clear()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while self._going.is_set():
            prepared = self._client.prepare(TYPE, {}, queue=QUEUE)
            while True:
                try:
                    self.handles.append(self._client.dispatch(prepared))
                except CallFailed as error:
                    self.failures[f"{type(error).__name__} {error}"] += 1
                else:
                    break
            time.sleep(PAUSE)


def total_of(address: str) -> TotalFigures:
    with Link([address]) as link:
        return link.admin.Stats(StatsRequest(), timeout=DRAIN_SECONDS).total


@pytest.mark.timeout(90 + DRAIN_SECONDS + LONGEST)
def test_what_is_dispatched_is_stored_once_and_done(tmp_path: Path, figures: Figures) -> None:
    with (
        EMBEDDED["file"](tmp_path) as place,
        BrokerProcess(place.url, folder=tmp_path) as broker,
        Proxy(broker.address, seed=seed()) as proxy,
        sdk_worker(proxy.address, QUEUE, lease=5.0, job_seconds=0.0),
    ):

        def goes_on() -> None:
            pushed, done = len(producers.handles), total_of(broker.address).totals.completed
            wait_until(lambda: len(producers.handles) > pushed, "jobs are pushed", BACK_SECONDS)
            wait_until(
                lambda: total_of(broker.address).totals.completed > done,
                "jobs are done",
                BACK_SECONDS,
            )

        with Producers(proxy.address, threads=8) as producers:
            count = bad_times(proxy, ROUNDS, Random(seed()), goes_on)
        handles = producers.handles
        wait_until(
            lambda: total_of(broker.address).totals.completed == len(handles),
            "all jobs are done",
            DRAIN_SECONDS,
        )
        total = total_of(broker.address)
        cuts = proxy.figures().cuts
    figures.show(
        "the SDK on a bad network",
        bad_times=count,
        cuts=cuts,
        jobs=len(handles),
        stored=total.totals.pushed,
        duplicates=total.totals.pushed - len(handles),
        repeated_after_they_were_stored=sum(not handle.created for handle in handles),
        failed_calls=producers.failures.total(),
    )
    assert len({handle.id for handle in handles}) == len(handles) == total.totals.pushed
    depth = total.depth
    assert (depth.ready, depth.leased, depth.scheduled, depth.dead) == (0, 0, 0, 0)
