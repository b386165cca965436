"""Running the Node scripts of these tests and of the example."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "node"
PACKAGES = SCRIPTS / "node_modules"
#: Seconds until a script counts as hanging. Calls that wait end long before.
TIMEOUT = 60


def node() -> str:
    """The path of Node. Where Node or its packages are missing, the test that asks is skipped on a
    laptop and fails in CI."""
    found = shutil.which("node")
    if found and PACKAGES.is_dir():
        return found
    missing = "Node (and npm) is not installed" if not found else "run 'make node-deps' first"
    if os.environ.get("CI"):
        pytest.fail(f"tests of other gRPC clients: {missing}")
    pytest.skip(f"tests of other gRPC clients: {missing}")


def environment() -> Mapping[str, str]:
    """Lets every script find the packages, also those of the example, which has a folder of its own
    for its users."""
    return {**os.environ, "NODE_PATH": str(PACKAGES)}


def play(address: str, scenario: str, queue: str) -> Any:
    """What the scenario ``FILE.FUNCTION`` found, played against a broker."""
    run = subprocess.run(
        [node(), "run.js", address, scenario, queue],
        cwd=SCRIPTS,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, f"{scenario} failed:\n{run.stderr}"
    return json.loads(run.stdout)
