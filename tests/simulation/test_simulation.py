"""P1 to P10 in many schedules, and that a schedule is the same each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.plan import STORES, Store

ROOT = Path(__file__).parents[2]
#: For each store, of about 35 ms each.
SCHEDULES = int(os.environ.get("TOWLINE_SCHEDULES", "150"))
#: The same ones in every plain run, so that a change is what makes it fail; `make faults` and
#: `make simulate` look for new ones.
SEED = os.environ.get("TOWLINE_SEED", "1")


def simulated(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, in which sets of strings have the same order each time."""
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.timeout(60 + SCHEDULES)
def test_every_promise_is_kept_in_every_schedule(store: Store) -> None:
    done = simulated("--store", store, "--schedules", str(SCHEDULES), "--seed", SEED)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SCHEDULES} schedules ({store})" in done.stdout


@pytest.mark.parametrize("store", STORES)
@pytest.mark.timeout(180)
def test_a_schedule_is_the_same_each_time(store: Store) -> None:
    told = [traced(store, seed=7, schedules=3), traced(store, seed=7, schedules=3)]
    assert len(told[0]) > 1_500
    assert told[0] == told[1]
    assert told[0].endswith(traced(store, seed=9, schedules=1)), "whatever was played before"


def traced(store: Store, seed: int, schedules: int) -> str:
    done = simulated(
        *("--store", store, "--seed", str(seed), "--schedules", str(schedules), "--trace")
    )
    whole, _, _ = done.stdout.removeprefix(f"seed {seed}\n").rpartition(f"{schedules} schedules")
    return whole
