"""make bench measures: one part of it, as quickly as it goes."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_quick_look_at_one_part_says_what_it_found_and_keeps_nothing() -> None:
    page = ROOT / "docs" / "performance.md"
    before = page.read_text()
    words = ("--quick", "--only", "calls", "--store", "memory")
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lost = [line for line in done.stdout.splitlines() if "not measured" in line]
    assert all("without refusals" in line for line in lost), "on a machine that is busy otherwise"
    rows = [line for line in done.stdout.splitlines() if line.startswith("| memory |")]
    shapes = {tuple(cell.strip() for cell in row.split("|")[2:4]) for row in rows}
    assert shapes == {
        (what, shape) for what in ("Push", "Reserve + Ack") for shape in ("1 x 64", "100 x 8")
    }
    assert "memory: Push, share of the echo, 1 job a call, 64 clients" in done.stdout
    assert done.stdout.startswith("printed only")
    assert page.read_text() == before
