"""P11: producers at ten times the rate that a store can take cost its jobs and its workers little.

    make faults ARGS="overload --full"

Goodput is what workers acknowledge. In each round the peak is measured, with producers that wait
for their answers; then others push at ten times that rate and never slow down. How much goodput is
left is held to only where the machine has nothing else to do (TOWLINE_OVERLOAD_LEAST, in percent).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest

from tests.faults.durable_stores import EVERY, Store
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.overload import overload
from tests.support.broker_process import BrokerProcess

SECONDS = size("OVERLOAD_SECONDS", 4)
TIMES = size("OVERLOAD_TIMES", 10)
BATCH = size("OVERLOAD_BATCH", 100)
ROUNDS = size("OVERLOAD_ROUNDS", 1)
#: Of the peak, the median of the rounds, in percent; 0: as it comes. Beside other tests a
#: measurement of seconds says little.
LEAST = size("OVERLOAD_LEAST", 0)
#: Over every durable store, or the file store alone.
KINDS = list(EVERY) if size("OVERLOAD_EVERY", 0) else ["file"]
DEPTH = 20_000
#: By how much what a broker has resident may grow: a full queue of jobs of 200 bytes and the calls
#: that are under way, in MiB ...
MEMORY_CAP = 200
#: ... and how each job ended, which is remembered for ten minutes, in KiB.
MEMORY_PER_JOB = 1


@contextmanager
def file(folder: Path) -> Iterator[Store]:
    """With segments as they are unless told otherwise."""
    yield Store(f"file:///{folder}/journal?min_free_bytes=0")


STORES = EVERY | {"file": file}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60 + 12 * SECONDS * ROUNDS)
def test_ten_times_too_much_is_borne(kind: str, tmp_path: Path, figures: Figures) -> None:
    environment = {"TOWLINE_CORE__MAX_QUEUE_DEPTH": str(DEPTH)}
    with (
        STORES[kind](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path, environment=environment) as broker,
    ):
        outcome = overload(broker.address, broker.pid, tmp_path, SECONDS, TIMES, BATCH, ROUNDS)
    peaks, worsts = zip(*outcome.rounds, strict=True)
    codes = sum((worst.codes for worst in worsts), Counter[str]())

    def both(name: str, digits: int = 0, factor: float = 1) -> str:
        medians = (median(getattr(one, name) for one in phases) for phases in (peaks, worsts))
        return " -> ".join(f"{value * factor:.{digits}f}" for value in medians)

    share = median(outcome.shares)
    figures.show(
        f"overload of {kind}, {TIMES} times, {BATCH} jobs a call",
        share=f"{share:.0%}",
        shares=" ".join(f"{one:.0%}" for one in outcome.shares),
        lost=outcome.lost,
        offered=both("offered"),
        goodput=both("goodput"),
        ack_p50_ms=both("ack_p50", 1, 1e3),
        ack_p99_ms=both("ack_p99", 1, 1e3),
        memory_mib=f"{outcome.memory_before >> 20} -> {outcome.memory_most >> 20}",
        settled=outcome.settled,
        pushes=dict(codes),
    )
    again = f"TOWLINE_SEED={seed()} python -m pytest 'tests/faults/test_overload.py' -k {kind}"
    assert outcome.lost == 0, again
    grown = outcome.memory_most - outcome.memory_before
    assert grown < (MEMORY_CAP << 20) + (MEMORY_PER_JOB << 10) * outcome.settled, again
    assert share * 100 >= LEAST, again
    # Nothing but a refusal that says when to come back, or a push that took too long.
    answers = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "NOT_BEGUN"}
    assert set(codes) <= answers, again
