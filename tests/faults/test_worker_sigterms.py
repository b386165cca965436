"""P3, P5: workers of the SDK that are told to stop at any moment, under load.

`make faults` does it a thousand times, with the figures on the screen; a plain test run a few
dozen times.
"""

import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.harness.closing import drained
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import Link
from tests.faults.sigterm_worker import QUEUE, in_thread, on_loop
from tests.support.broker_process import BrokerProcess
from towline import Client, Job

SIGTERMS = size("SIGTERMS", 24)
SEED = seed()
POOLS = ("thread", "async", "process")
#: Workers side by side.
WORKERS = 3
#: How long a worker lives once it is up, in seconds; one in five is hit while it starts.
LIFE = (0.0, 0.6)
STARTING = (0.0, 0.5)
#: The second is too short for some jobs: they are cut short and given back.
DRAIN_TIMEOUTS = (30.0, 0.01)
#: Jobs that wait at any time.
BACKLOG = 300
END_SECONDS = 30.0
DRAIN_SECONDS = 120.0


@dataclass
class Tally:
    """What became of the workers, by exit code, and what the jobs wrote."""

    exits: Counter[int] = field(default_factory=Counter)
    began: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)

    def read(self, folder: Path) -> None:
        for diary in folder.glob("*.diary"):
            for line in diary.read_text().splitlines():
                job_id, attempt, what = line.split()
                (self.began if what == "began" else self.done)[job_id] += 1
                self.attempts[int(attempt)] += 1


class Producer:
    """Keeps jobs waiting, each of which has one attempt: one that is used up wrongly is seen."""

    def __init__(self, client: Client, link: Link) -> None:
        self.pushed: set[str] = set()
        self._client = client
        self._link = link
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Producer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.05):
            if self._link.total().depth.ready < BACKLOG:
                jobs: list[Job] = [each.job() for each in (in_thread, on_loop) for _ in range(100)]
                handles = self._client.dispatch_batch(jobs, queue=QUEUE, max_attempts=1)
                self.pushed.update(handle.id for handle in handles)


@pytest.mark.timeout(60 + DRAIN_SECONDS + 3 * SIGTERMS)
def test_no_job_is_lost_and_no_attempt_used_up_whenever_workers_are_told_to_stop(
    tmp_path: Path, figures: Figures
) -> None:
    tally = Tally()
    store = f"sqlite:///{tmp_path / 'jobs.db'}"
    with (
        BrokerProcess(store, folder=tmp_path) as broker,
        Client(broker.address) as client,
        Link([broker.address]) as link,
    ):
        with Producer(client, link) as producer:
            lanes = [
                threading.Thread(target=one_after_another, args=(lane, broker, tmp_path, tally))
                for lane in range(WORKERS)
            ]
            for each in lanes:
                each.start()
            for each in lanes:
                each.join()
        with worker(broker, "thread", 30.0, tmp_path / "last.diary") as last:
            drained(link, DRAIN_SECONDS)
            last.send_signal(signal.SIGTERM)
            assert last.wait(END_SECONDS) == 0
        total = link.total()
        tally.read(tmp_path)
        missing = [client.handle(each).status() for each in producer.pushed - set(tally.done)]
    totals, depth = total.totals, total.depth
    figures.show(
        "workers told to stop",
        workers=SIGTERMS,
        exit_codes=dict(tally.exits),
        jobs=len(producer.pushed),
        completed=totals.completed,
        dead=depth.dead,
        leases_run_out=totals.lease_expired,
        given_back=totals.released,
        given_back_while_they_ran=sum(tally.began.values()) - sum(tally.done.values()),
        done_twice=sum(count > 1 for count in tally.done.values()),
    )
    # Before and after it handles signals, a worker ends by them; in between they end it well.
    assert set(tally.exits) <= {0, -signal.SIGTERM}
    assert sum(tally.exits.values()) == SIGTERMS
    assert tally.exits[0] > SIGTERMS // 4, "hardly any was up when it was told to stop"
    assert missing == []
    assert set(tally.done) == producer.pushed
    assert set(tally.attempts) == {1}
    assert totals.completed == totals.pushed == len(producer.pushed)
    assert (totals.failed, totals.retried, totals.lease_expired) == (0, 0, 0)
    assert (depth.dead, depth.ready, depth.leased, depth.scheduled) == (0, 0, 0, 0)


def one_after_another(lane: int, broker: BrokerProcess, folder: Path, tally: Tally) -> None:
    """A share of the workers, each of which lives until it is told to stop."""
    chance = random.Random(SEED + lane)
    for number in range(lane, SIGTERMS, WORKERS):
        pool, drain_timeout = POOLS[number // WORKERS % len(POOLS)], chance.choice(DRAIN_TIMEOUTS)
        with worker(broker, pool, drain_timeout, folder / f"{number}.diary") as process:
            assert process.stdout is not None
            if chance.random() < 0.2:
                time.sleep(chance.uniform(*STARTING))
            else:
                select.select([process.stdout], [], [], END_SECONDS)
                time.sleep(chance.uniform(*LIFE))
            process.send_signal(signal.SIGTERM)
            tally.exits[process.wait(END_SECONDS)] += 1


class worker:  # noqa: N801 - used as a function
    """A worker for the length of a `with` block."""

    def __init__(self, broker: BrokerProcess, pool: str, drain_timeout: float, diary: Path) -> None:
        arguments = [broker.address, pool, str(drain_timeout), str(diary)]
        with diary.with_suffix(".err").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.sigterm_worker", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
