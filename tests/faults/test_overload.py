"""P11: producers at ten times the rate that a store can take cost its jobs and its workers little.

    make faults ARGS="overload --full"

Goodput is what workers acknowledge. The peak is measured in the same run, with producers that wait
for their answers; then others push at ten times that rate and never slow down. How much goodput is
left is held to only where the machine has nothing else to do (TOWLINE_OVERLOAD_LEAST, in percent).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.harness.figures import Figures, seed, size
from tests.faults.overload import overload
from tests.faults.places import EVERY, Place
from tests.support.broker_process import BrokerProcess

SECONDS = size("OVERLOAD_SECONDS", 4)
TIMES = size("OVERLOAD_TIMES", 10)
BATCH = size("OVERLOAD_BATCH", 100)
#: Of the peak, in percent; 0: as it comes. Beside other tests a measurement of seconds says little.
LEAST = size("OVERLOAD_LEAST", 0)
#: Over every durable store, or the file store alone.
STORES = tuple(EVERY) if size("OVERLOAD_EVERY", 0) else ("file",)
DEPTH = 20_000
#: What a broker may have resident. A queue that is full of jobs of 200 bytes is 20 MiB of it.
MEMORY_CAP = 400 << 20


@contextmanager
def file(folder: Path) -> Iterator[Place]:
    """With segments as they are unless told otherwise."""
    yield Place(f"file:///{folder}/journal?min_free_bytes=0")


PLACES = EVERY | {"file": file}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.timeout(60 + 12 * SECONDS)
def test_ten_times_too_much_is_borne(store: str, tmp_path: Path, figures: Figures) -> None:
    environment = {"TOWLINE_CORE__MAX_QUEUE_DEPTH": str(DEPTH)}
    with (
        PLACES[store](tmp_path) as place,
        BrokerProcess(place.url, folder=tmp_path, environment=environment) as broker,
    ):
        outcome = overload(broker.address, broker.pid, tmp_path, SECONDS, TIMES, BATCH)
    peak, worst = outcome.peak, outcome.overload
    figures.show(
        f"overload of {store}, {TIMES} times, {BATCH} jobs a call",
        peak_goodput=round(peak.goodput),
        goodput=round(worst.goodput),
        share=f"{outcome.share:.0%}",
        lost=outcome.lost,
        offered=round(worst.offered),
        accepted=round(worst.accepted),
        ack_p50_ms=f"{peak.ack_p50 * 1e3:.1f} -> {worst.ack_p50 * 1e3:.1f}",
        ack_p99_ms=f"{peak.ack_p99 * 1e3:.1f} -> {worst.ack_p99 * 1e3:.1f}",
        memory_mib=f"{outcome.memory_before >> 20} -> {outcome.memory_most >> 20}",
        pushes=dict(worst.codes),
    )
    again = f"TOWLINE_SEED={seed()} python -m pytest 'tests/faults/test_overload.py' -k {store}"
    assert outcome.lost == 0, again
    assert outcome.memory_most < MEMORY_CAP, again
    assert not LEAST or outcome.share * 100 >= LEAST, again
    # Nothing but a refusal that says when to come back, or a push that took too long.
    answers = {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "NOT_BEGUN"}
    assert set(worst.codes) <= answers, again
