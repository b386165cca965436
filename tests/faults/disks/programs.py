"""Programs that play with a store in a process of their own, and print as JSON what came of it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from shutil import which
from typing import Any

import pytest

from tests.faults.harness.figures import seed
from tests.support.disks import ALONE


def module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"tests.faults.disks.{name}", *map(str, arguments)]


def result_of(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Fails, and says what the program has said, if it does not end well."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"seed {seed()}: {done.stderr}"
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def result_on_a_disk(what: str, command: Sequence[str]) -> dict[str, Any]:
    """Of a program that mounts a disk of its own; skips the test where there is none to be had.
    ``what``: is not tested then."""
    if os.geteuid() != 0 or which(ALONE[0]) is None:
        pytest.skip(f"{what} is not tested: only root, with unshare, can mount a disk of its own")
    result = result_of([*ALONE, *command])
    if "missing" in result:
        pytest.skip(f"{what} is not tested: {result['missing']}")
    return result
