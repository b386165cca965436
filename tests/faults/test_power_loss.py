"""P1, P3, P5, P7: what was acknowledged survives the loss of power.

The store lies on a file system of its own, in an image. The file system is shut down under load, as
if the power went: what the kernel had not written by then is gone. Then it is mounted again, and
every job must stand as what was answered says, in whichever state it is; what was under way must
have happened as a whole or not at all. And so on with what is there.

A plain test run makes a few cuts; `make faults` makes hundreds.
"""

from pathlib import Path

import pytest

from tests.faults.disks.cuts import STORES
from tests.faults.disks.programs import module, result_on_a_disk
from tests.faults.harness.figures import Figures, seed, size

CUTS = size("POWER_CUTS", 8)
SEED = seed()


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(60 + 5 * CUTS)
def test_p1_what_was_acknowledged_survives_the_loss_of_power(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    result = result_on_a_disk("power loss", module("cuts", kind, tmp_path, SEED, CUTS))
    answered, wrong = result["answered"], result["wrong"]
    figures.show(
        f"power cuts, {kind}",
        cuts=result["cuts"],
        while_tidying=result["while tidying"],
        pushes_answered=answered.get("push", 0),
        acks_answered=answered.get("ack", 0),
        changes_answered=sum(answered.values()),
        lost_undone_or_done_by_half=len(wrong),
    )
    again = f"again: TOWLINE_SEED={SEED} TOWLINE_POWER_CUTS={CUTS} make faults ARGS=power"
    assert not wrong, f"{wrong[0]}\n{again}"
    assert result["cuts"] == CUTS
    assert answered["push"] > 5 * CUTS
    assert answered["ack"] > CUTS
