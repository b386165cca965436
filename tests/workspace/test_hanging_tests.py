"""A test that hangs is ended, and shows where it hung."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

HANGS = """
import asyncio
import threading


async def in_a_task():
    await asyncio.Event().wait()


async def test_that_awaits_for_ever():
    await asyncio.create_task(in_a_task())


def test_that_blocks_for_ever():
    threading.Event().wait()


def test_that_ends():
    pass
"""


def test_a_hanging_test_fails_with_its_stack_and_the_others_run(tmp_path: Path) -> None:
    file = tmp_path / "test_hangs.py"
    file.write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--timeout", "1"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "2 failed, 1 passed" in run.stdout
    assert run.stdout.count("no end after 1 s") >= 2
    assert "in in_a_task" in run.stdout
    assert "in test_that_blocks_for_ever" in run.stdout
