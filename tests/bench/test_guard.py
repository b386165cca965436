"""The guard of what a job costs notices what makes a hot path longer."""

from pathlib import Path
from typing import Any

import pytest

from bench.guard import broker_paths
from bench.guard.__main__ import check, main
from bench.guard.baseline import BOUND, ELSEWHERE_BOUND, Baseline, Comparison
from towline_broker.services.pushes import Pushed, Pushes


def guard(baseline: Path, *arguments: str) -> int:
    return main(["--only", "memory", "--baseline", str(baseline), *arguments])


def test_a_planted_slowdown_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker_paths, "CALLS", {100: 1})
    monkeypatch.setattr(broker_paths, "MESSAGES", 2)
    monkeypatch.setattr(broker_paths, "ROUNDS", 1)
    baseline = tmp_path / "baseline.json"
    Baseline.here({}).save(baseline)
    assert guard(baseline, "--update") == 0
    agreed = Baseline.load(baseline).figures["memory Push 100"]

    answer = Pushes.answer

    async def slower(self: Pushes, pushed: Pushed) -> Any:
        for _ in range(round(0.2 * agreed * 100 / 4)):  # a turn is some four instructions
            pass
        return await answer(self, pushed)

    monkeypatch.setattr(Pushes, "answer", slower)
    assert guard(baseline) == 1
    told = capsys.readouterr()
    worse = [line for line in told.out.splitlines() if line.endswith("WORSE")]
    assert any(line.startswith("memory Push 100 ") for line in worse)
    assert all(line.startswith("memory Push ") for line in worse)
    assert "make guard ARGS=--update" in told.err


def test_what_became_better_passes_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(here(**{"memory Push 1": 80.0}), here(**{"memory Push 1": 100.0}), ["memory"])
    assert "better" in capsys.readouterr().out


def here(**figures: float) -> Baseline:
    return Baseline("3.11", "3.40.1", figures)


@pytest.mark.parametrize(("now", "passes"), [(109.9, True), (110.1, False), (50.0, True)])
def test_a_tenth_more_passes_and_nothing_beyond(now: float, passes: bool) -> None:
    assert [one.passes for one in here(a=100.0).compare(here(a=now))] == [passes]


def test_paths_that_are_new_or_gone_fail() -> None:
    compared = here(a=1.0, gone=1.0).compare(here(a=1.0, new=1.0))
    assert compared == [
        Comparison("a", 1.0, 1.0, BOUND),
        Comparison("new", None, 1.0, BOUND),
        Comparison("gone", 1.0, None, BOUND),
    ]
    assert [one.passes for one in compared] == [True, False, False]


def test_with_another_python_the_bound_is_wider() -> None:
    elsewhere = Baseline("3.13", "3.40.1", {"a": 1.3})
    (one,) = here(a=1.0).compare(elsewhere)
    assert one.passes
    assert one.bound == ELSEWHERE_BOUND
