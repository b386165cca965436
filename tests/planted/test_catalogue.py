"""The catalogue of planted bugs is true of the code as it is now, and the runner tells a bug that
is caught from one that is missed. `make planted` plants them all."""

from pathlib import Path

import pytest

from tests.planted.__main__ import main
from tests.planted.catalogue import Bug, Outdated, load
from tests.planted.detectors import DETECTORS, Detector, Finding, Verdict, promises_in
from tests.planted.workshop import ROOT, Workshop

BUGS = load()


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_what_a_bug_replaces_stands_in_the_code_once_and_what_it_puts_there_is_code(
    bug: Bug,
) -> None:
    """Where this fails the code has changed: change the bug along with it, so that it stays as
    likely a mistake as it was."""
    broken = bug.planted_in((ROOT / bug.file).read_text(encoding="utf-8"))
    if bug.file.endswith(".py"):
        compile(broken, bug.file, "exec")


def test_every_bug_names_detectors_that_there_are() -> None:
    assert {name for bug in BUGS for name in bug.found_by} <= DETECTORS.keys()


def test_there_are_bugs_in_every_room() -> None:
    assert len(BUGS) >= 45
    rooms = {
        "services",
        "core",
        "memory",
        "file",
        "sqlite",
        "postgresql",
        "mysql",
        "redis",
        "worker",
    }
    assert rooms <= {part for bug in BUGS for part in Path(bug.file).parts}


@pytest.mark.parametrize("name", ["one-attempt-too-many", "answers-before-durable"])
def test_a_bug_is_caught(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--trust", "--seed", "1"]) == 0
    assert f"CAUGHT    {name}" in capsys.readouterr().out


def test_a_bug_that_no_detector_sees_is_missed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sees_nothing = Detector(("-c", "print('1 passed')"))
    for name in DETECTORS:
        monkeypatch.setitem(DETECTORS, name, sees_nothing)
    assert main(["one-attempt-too-many", "--trust"]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_nothing_is_planted_where_the_sound_code_is_blamed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blames = Detector(("-c", "print('violations: 1'); raise SystemExit(1)"))
    for name in DETECTORS:
        monkeypatch.setitem(DETECTORS, name, blames)
    assert main(["one-attempt-too-many"]) == 1
    assert "no bug was planted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        ("print('every promise was kept')", Verdict.GREEN),
        ("print('1 skipped')", Verdict.SKIPPED),
        ("print('1 passed, 1 skipped')", Verdict.GREEN),
        ("print('violations: 2'); raise SystemExit(1)", Verdict.FOUND),
        ("print('FAILED tests/x.py'); raise SystemExit(1)", Verdict.FOUND),
        ("raise ImportError('a detector that does not even run')", Verdict.BROKEN),
        ("raise SystemExit(2)", Verdict.BROKEN),
        ("import time; time.sleep(1000)", Verdict.BROKEN),
    ],
)
def test_only_a_detector_that_tells_of_a_violation_has_found_one(
    program: str, verdict: Verdict
) -> None:
    # Python may take seconds to start where others are at work.
    seconds = 1.0 if "sleep" in program else 60.0
    with Workshop() as workshop:
        finding: Finding = Detector(("-c", program), seconds=seconds).run(workshop, seed=1)
    assert finding.verdict is verdict


def test_the_copy_is_what_python_finds_and_is_whole_again_afterwards() -> None:
    bug = next(bug for bug in BUGS if bug.name == "one-attempt-too-many")
    program = "import towline_broker.core.retrying as r; print(open(r.__file__).read())"
    look = Detector(("-c", program))
    with Workshop() as workshop:
        with workshop.planted(bug):
            broken = look.run(workshop, seed=1).output
        sound = look.run(workshop, seed=1).output
    assert bug.planted_in(sound) == broken
    with pytest.raises(Outdated):
        bug.planted_in(broken)


@pytest.mark.parametrize(
    ("output", "promises"),
    [
        ("violations: 1\n  P5: attempts not exact: attempt 3 came next after attempt 1", ("P5",)),
        ("E       AssertionError: P8: a job came 3.0 s late\nE   P2: overlapping: x", ("P8", "P2")),
        ("  12.3  VIOLATION P9 leased to nobody: job a, since 1", ("P9",)),
        ("E       Stats: totals.pushed: 2, expected 1", ("Stats",)),
        ("FAILED tests/faults/test_x.py::test_p1_what_was_acknowledged", ("P1",)),
        ("E  assert 1 == 2", ()),
    ],
)
def test_the_promise_is_what_the_violation_names(output: str, promises: tuple[str, ...]) -> None:
    assert promises_in(output) == promises
