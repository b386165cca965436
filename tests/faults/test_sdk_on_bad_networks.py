"""P1, P3: the SDK's client and worker on bad networks repeat by themselves what has to be repeated.

`make faults` does it for longer, with the figures on the screen.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Self

import pytest

from tests.faults.bad_networks import BAD_TIMES, bad_times
from tests.faults.durable_stores import EMBEDDED
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import total_of
from tests.faults.sdk_worker import TYPE, sdk_worker
from tests.support.broker_process import BrokerProcess
from tests.support.namespaces import Machine, Traffic, parted
from tests.support.proxy import Proxy
from tests.support.servers.process import wait_until
from towline import CallFailed, Client, JobHandle
from towline.v1.admin_service_pb2 import Figures as TotalFigures

#: How often everything happens that a network can do; 0: only some of it.
ROUNDS = size("NETWORK_ROUNDS", 0)
QUEUE = "sdk"
#: All seconds.
PAUSE = 0.02
LEASE = 5.0
#: Longer than TCP repeats itself patiently (10 s, by the keepalive of the SDK's channels).
PARTED = 15.0 if ROUNDS else 3.0
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


class Running:
    """A broker over a store of its own, a worker, and producers, all by the same way."""

    def __init__(self, broker: BrokerProcess, producers: Producers) -> None:
        self._broker = broker
        self.producers = producers

    @property
    def done(self) -> int:
        return total_of(self._broker.address).totals.completed

    def goes_on(self) -> None:
        """Jobs are pushed, and done."""
        pushed, done = len(self.producers.handles), self.done
        wait_until(lambda: len(self.producers.handles) > pushed, "jobs are pushed", BACK_SECONDS)
        wait_until(lambda: self.done > done, "jobs are done", BACK_SECONDS)

    def come_to_rest(self) -> TotalFigures:
        """Each job was stored once, and is done."""
        self.producers.stop()
        ids = {handle.id for handle in self.producers.handles}
        wait_until(lambda: self.done >= len(ids), "all jobs are done", DRAIN_SECONDS)
        total = total_of(self._broker.address)
        assert len(ids) == len(self.producers.handles) == total.totals.pushed
        assert total.totals.completed == total.totals.pushed
        depth = total.depth
        assert (depth.ready, depth.leased, depth.scheduled, depth.dead) == (0, 0, 0, 0)
        return total


@contextmanager
def running(broker: BrokerProcess, address: str) -> Iterator[Running]:
    """By that address."""
    with (
        sdk_worker(address, QUEUE, lease=LEASE, job_seconds=0.0),
        Producers(address, threads=8) as producers,
    ):
        yield Running(broker, producers)


@pytest.mark.timeout(90 + DRAIN_SECONDS + LONGEST)
def test_what_is_dispatched_on_a_bad_network_is_stored_once_and_done(
    tmp_path: Path, figures: Figures
) -> None:
    with (
        EMBEDDED["file"](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path) as broker,
        Proxy(broker.address, seed=seed()) as proxy,
        running(broker, proxy.address) as sdk,
    ):
        count = bad_times(proxy, ROUNDS, Random(seed()), sdk.goes_on)
        total = sdk.come_to_rest()
        cuts = proxy.figures().cuts
    handles = sdk.producers.handles
    figures.show(
        "the SDK on a bad network",
        bad_times=count,
        cuts=cuts,
        jobs=len(handles),
        duplicates=total.totals.pushed - len(handles),
        repeated_after_they_were_stored=sum(not handle.created for handle in handles),
        failed_calls=sdk.producers.failures.total(),
    )


@pytest.mark.timeout(90 + DRAIN_SECONDS + 4 * (PARTED + BACK_SECONDS))
def test_client_and_worker_are_back_soon_after_their_network_was_parted(
    tmp_path: Path, figures: Figures
) -> None:
    ways = (*Traffic, None) if ROUNDS else (Random(seed()).choice(list(Traffic)),)
    with Machine() as machine:
        cable, ours = machine.cable(), machine.cable()
        with (
            EMBEDDED["file"](tmp_path) as store,
            BrokerProcess(
                store.url,
                "--insecure",
                folder=tmp_path,
                address="0.0.0.0:0",
                run_by=machine.run_by,
            ) as broker,
        ):
            port = broker.address.rpartition(":")[2]
            broker.address = f"{ours.there}:{port}"
            slowest = 0.0
            with running(broker, f"{cable.there}:{port}") as sdk:
                sdk.goes_on()
                for way in ways:
                    parted(cable, PARTED, way)
                    mended = time.monotonic()
                    sdk.goes_on()
                    slowest = max(slowest, time.monotonic() - mended)
                total = sdk.come_to_rest()
    handles = sdk.producers.handles
    figures.show(
        "the SDK on a parted network",
        partitions=len(ways),
        seconds_each=PARTED,
        slowest_return_seconds=round(slowest, 1),
        jobs=len(handles),
        duplicates=total.totals.pushed - len(handles),
        failed_calls=sdk.producers.failures.total(),
    )
