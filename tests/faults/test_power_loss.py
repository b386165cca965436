"""P1, P3, P5, P7: what was acknowledged survives the loss of power.

The store lies on a file system of its own, in an image. The file system is shut down under load, as
if the power went: what the kernel had not written by then is gone. Then it is mounted again, and
every job must stand as what was answered says, in whichever state it is; what was under way must
have happened as a whole or not at all. And so on with what is there.

A plain test run makes a few cuts; `make faults` makes hundreds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tests.faults.disks.cuts import STORES
from tests.faults.harness.figures import seed, size
from tests.support.disks import ALONE

CUTS = size("POWER_CUTS", 8)
SEED = seed()


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.timeout(60 + 5 * CUTS)
def test_p1_what_was_acknowledged_survives_the_loss_of_power(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0 or which(ALONE[0]) is None:
        pytest.skip(
            "power loss is not tested: only root, with unshare, can mount a disk of its own"
        )
    command = [*ALONE, sys.executable, "-m", "tests.faults.disks.cuts"]
    done = subprocess.run(
        [*command, kind, str(tmp_path), str(SEED), str(CUTS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {SEED}: {done.stderr}"
    figures: dict[str, Any] = json.loads(done.stdout)
    if "missing" in figures:
        pytest.skip(f"power loss is not tested: {figures['missing']}")
    answered, wrong = figures["answered"], figures["wrong"]
    with capsys.disabled():
        print(  # noqa: T201 -- the figures are wanted
            f"\n{kind}: {figures['cuts']} power cuts, {figures['while tidying']} of them while the"
            f" store tidied up: {answered.get('push', 0)} pushes and {answered.get('ack', 0)} acks"
            f" answered, {sum(answered.values())} changes in all, {len(wrong)} of them lost, undone"
            f" or done by half; seed {SEED}"
        )
    again = f"again: TOWLINE_SEED={SEED} TOWLINE_POWER_CUTS={CUTS} make faults ARGS=power"
    assert not wrong, f"{wrong[0]}\n{again}"
    assert figures["cuts"] == CUTS
    assert answered["push"] > 5 * CUTS
    assert answered["ack"] > CUTS
