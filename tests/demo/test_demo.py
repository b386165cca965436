"""The demo does what it says on a few files, and its check at the end can fail."""

import subprocess
import sys
from pathlib import Path

import pytest
from accounting import problems

DEMO = Path(__file__).parents[2] / "examples" / "stdlib_census" / "demo.py"

FILES = {"1": "a.py", "2": "b.py", "3": "bad.py"}
ENDED = [("1", "SUCCEEDED"), ("2", "SUCCEEDED"), ("3", "DEAD")]


def test_every_file_is_accounted_for_although_a_worker_is_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEMO, "--limit", "60", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for expected in (
        "Killed worker 1",
        "What ran",
        "What is dead",
        "attempts",
        "SyntaxError",
        "files is accounted for exactly once",
    ):
        assert expected in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_books_that_add_up_have_no_problems() -> None:
    assert problems(FILES, ENDED, ["3"], completed=2) == []


@pytest.mark.parametrize(
    ("ended", "dead", "completed", "expected"),
    [
        (ENDED[1:], ["3"], 1, ["a.py was listed 0 times, not once"]),
        ([*ENDED, ENDED[0]], ["3"], 2, ["a.py was listed 2 times, not once"]),
        (ENDED, ["3", "3"], 2, ["bad.py was 2 times in the dead-letter queue"]),
        (ENDED, [], 2, ["bad.py was 0 times in the dead-letter queue"]),
        (ENDED, ["3", "1"], 2, ["a.py was 1 times in the dead-letter queue"]),
        (ENDED, ["3", "9"], 2, ["dead letter 9 was never dispatched"]),
        ([*ENDED, ("9", "DEAD")], ["3"], 2, ["job 9 was never dispatched"]),
        (ENDED, ["3"], 3, ["3 successes were counted, but 2 jobs succeeded"]),
        ([*ENDED[1:], ("1", "LEASED")], ["3"], 1, ["a.py has not ended: it is LEASED"]),
        ([*ENDED[1:], ("1", "CANCELLED")], ["3"], 1, ["a.py has not ended: it is CANCELLED"]),
    ],
)
def test_whatever_does_not_add_up_is_told(
    ended: list[tuple[str, str]], dead: list[str], completed: int, expected: list[str]
) -> None:
    assert problems(FILES, ended, dead, completed) == expected


def test_a_file_dispatched_twice_is_told() -> None:
    twice = {**FILES, "4": "a.py"}
    assert problems(twice, [*ENDED, ("4", "SUCCEEDED")], ["3"], completed=3) == [
        "a.py was dispatched 2 times"
    ]
