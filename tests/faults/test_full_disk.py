"""P11: on a disk that is full Push is refused, and settling goes on; nothing is lost by it.

The store lies on a small file system of its own. It is filled by pushes until they are refused; in
a second run another program then takes all that the store had left free.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.disks.filling import BATCH, STORES
from tests.faults.disks.programs import module, result_on_a_disk
from tests.faults.harness.figures import Figures


def filled(kind: str, folder: Path, who: str, figures: Figures) -> dict[str, Any]:
    result = result_on_a_disk("a full disk", module("filling", kind, folder, who))
    counts = ("pushed", "acked", "lost", "back again", "changed by a restart")
    figures.show(
        f"a disk filled by {who}, {kind}",
        **{each.replace(" ", "_"): result[each] for each in counts},
    )
    assert result["why"].startswith("DISK_FULL: the disk of the store has ")
    assert "min_free_bytes" in result["why"]
    assert "running jobs can still be settled" in result["why"]
    assert (result["lost"], result["back again"], result["changed by a restart"]) == (0, 0, 0)
    # There is room again, and all that was settled.
    assert result["refused later"] == {}
    assert result["pushed"] - result["acked"] == 5 * BATCH
    return result


@pytest.mark.parametrize("kind", STORES)
def test_p11_a_store_that_has_filled_its_disk_settles_what_is_there(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    assert filled(kind, tmp_path, "own", figures)["refused while full"] == {}


def test_p11_a_file_store_settles_with_no_byte_left_by_others(
    tmp_path: Path, figures: Figures
) -> None:
    result = filled("file", tmp_path, "others", figures)
    assert result["free"] == 0
    # To give up old memories can wait.
    assert {what.split(":")[0] for what in result["refused while full"]} <= {"forget"}


def test_sqlite_changes_nothing_with_no_byte_left_by_others(
    tmp_path: Path, figures: Figures
) -> None:
    result = filled("sqlite", tmp_path, "others", figures)
    told = {what.split(": ", 1)[1] for what in result["refused while full"]}
    assert told <= {"the disk is full: nothing was changed; make room and try again"}
