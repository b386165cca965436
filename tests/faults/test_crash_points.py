"""P1, P2, P3, P5, P7: a short life of a store ends, or meets an error, at every call by which it
changes its files.

The process is killed before, after and in the middle of each such call; and each such call fails
(EIO, ENOSPC) or writes less than it was given. Then the store is opened: every job must stand as
what was answered says, in whichever state it is, with what hangs on it; what was under way at that
moment must have happened as a whole or not at all; and the store goes on.

So is the process that moves a queue from one store to another; then every job must have arrived as
it was, once, in its order.

A plain test run takes some of the points, by chance; `make faults` takes all.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.disks.points import PREFIX, STORES
from tests.faults.disks.programs import module, result_of
from tests.faults.harness.figures import Figures, seed, size
from tests.support.failing_calls import NoCompiler, built, loaded
from tests.support.strace import NoStrace, changing_calls

#: For each store and each way; 0: all that there are.
POINTS = size("CRASH_POINTS", 20)
SEED = seed()
AGAIN = "TOWLINE_SEED={seed} TOWLINE_CRASH_POINTS={points} make faults ARGS=crash-points"


@pytest.fixture
def library(tmp_path: Path) -> Path:
    try:
        return built(tmp_path)
    except NoCompiler as missing:
        pytest.skip(f"crash points are not tested: {missing}")


def life(library: Path, kind: str, which: str, points: int) -> list[str]:
    return module("points", library, kind, which, SEED, points)


def none_wrong(result: dict[str, Any]) -> None:
    again = AGAIN.format(seed=SEED, points=POINTS)
    assert not result["wrong"], "\n".join([*result["wrong"][:5], f"again: {again}"])


def never_wrong(library: Path, kind: str, which: str, figures: Figures) -> dict[str, Any]:
    """What came of the life at each of the points."""
    result = result_of(life(library, kind, which, POINTS), loaded(library))
    figures.show(
        f"{which} at calls that change files, {kind}",
        points=result["points"],
        came_to=result["came to"],
        calls_of_a_life=result["calls"],
        rounds_answered=result["rounds"],
        wrong=len(result["wrong"]),
    )
    none_wrong(result)
    return result


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(240 if POINTS else 7_200)
def test_p1_nothing_answered_is_lost_wherever_the_process_is_killed(
    kind: str, library: Path, figures: Figures
) -> None:
    result = never_wrong(library, kind, "kills", figures)
    # How often the journal is compacted depends on the machine: some lives have fewer calls.
    assert result["came to"]["killed"] >= 0.5 * result["points"]


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(240 if POINTS else 7_200)
def test_p1_nothing_is_answered_that_an_error_of_the_disk_has_lost(
    kind: str, library: Path, figures: Figures
) -> None:
    result = never_wrong(library, kind, "errors", figures)
    assert result["came to"].get("failed")


@pytest.mark.parametrize(("old", "new"), [("sqlite", "file"), ("file", "sqlite")])
@pytest.mark.timeout(240 if POINTS else 7_200)
def test_every_job_arrives_once_wherever_the_process_that_moves_its_queue_is_killed(
    old: str, new: str, library: Path, figures: Figures
) -> None:
    result = result_of(module("moves", library, old, new, SEED, POINTS // 2), loaded(library))
    figures.show(
        f"kills at calls of a move from {old} to {new} that change files",
        points=result["points"],
        killed=result["killed"],
        calls_of_a_move=result["calls"],
        wrong=len(result["wrong"]),
    )
    none_wrong(result)
    assert result["killed"] >= 0.5 * result["points"]


@pytest.mark.parametrize("kind", STORES)
def test_no_call_that_changes_files_is_overlooked(kind: str, library: Path, tmp_path: Path) -> None:
    """What strace sees of the kernel is what the points are made of."""
    unharmed = life(library, kind, "none", 0)
    try:
        environment = {"LD_PRELOAD": str(library), "TMPDIR": str(tmp_path)}
        # What is in the folder, and the folder as a descriptor, but not the making of it.
        seen, output = changing_calls(unharmed, environment, rf"/{PREFIX}\w+[/>]", tmp_path)
    except NoStrace as missing:
        pytest.skip(f"the calls of a store are not looked at from outside: {missing}")
    counted = Counter(json.loads(output)["calls"])
    names = {"pwrite64": "pwrite", "openat": "open"}
    assert Counter(names.get(name, name) for name in seen) == counted
