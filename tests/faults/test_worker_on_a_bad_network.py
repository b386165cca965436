"""P2, P3, P5: a worker of the SDK whose connection to the broker is cut, again and again, while
requests and replies are under way: each job runs once, and its outcome is recorded."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from tests.faults.flaky_worker import QUEUE
from tests.faults.harness.closing import drained
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.link import Link
from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Cut, Fault, LoseReplies, Proxy, Way
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job

#: How often the network is bad.
ROUNDS = 6 * size("NETWORK_ROUNDS", 1)
#: Jobs that are dispatched in each round; long ones in all.
JOBS, LONG_JOBS = 40, 2
FAULTS: tuple[Fault, ...] = (LoseReplies(), Cut(Way.REQUEST, 0, 500), Cut(Way.REPLY, 0, 500))
#: Much shorter than a lease, all in seconds.
BAD = (0.1, 0.4)
WHOLE = 0.5
DRAIN_SECONDS = 40.0


def test_p5_each_job_runs_once_and_its_outcome_is_recorded(
    tmp_path: Path, figures: Figures
) -> None:
    chance = Random(seed())
    with (
        BrokerProcess(f"sqlite:///{tmp_path}/jobs.db", folder=tmp_path) as broker,
        Proxy(broker.address, seed=seed()) as proxy,
        Link([broker.address]) as link,
        worker(proxy.address, tmp_path / "diary"),
    ):
        push(link, "longer_than_its_lease", LONG_JOBS)
        for _ in range(ROUNDS):
            proxy.fail(chance.choice(FAULTS))
            push(link, "short", JOBS)
            time.sleep(chance.uniform(*BAD))
            proxy.heal()
            time.sleep(WHOLE)
        drained(link, DRAIN_SECONDS)
        totals = link.total().totals
        cuts = proxy.figures().cuts
    runs = Counter(line.split()[0] for line in (tmp_path / "diary").read_text().splitlines())
    jobs = LONG_JOBS + ROUNDS * JOBS
    figures.show("SDK worker on a bad network", jobs=jobs, runs=runs.total(), cuts=cuts)
    assert cuts
    assert totals.lease_expired == 0, "P2: leases of a worker that lived ran out"
    assert (len(runs), runs.total()) == (jobs, jobs), "P3: a job ran more than once"
    assert totals.completed == totals.pushed == jobs
    assert totals.started - totals.released == jobs, "P5: leases that nobody worked at"


@contextmanager
def worker(address: str, diary: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.faults.flaky_worker", address, str(diary)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield
        finally:
            process.terminate()
            process.wait(30)


def push(link: Link, name: str, count: int) -> None:
    """Jobs without arguments."""
    jobs = [Job(id=uuid7(), queue=QUEUE, type=name, payload=b"{}") for _ in range(count)]
    link.queue.Push(pb.PushRequest(jobs=jobs))
