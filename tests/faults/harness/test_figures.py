"""Figures are on the screen, and in the file that is named, a line for each."""

import json
from pathlib import Path

import pytest

from tests.faults.harness.figures import Figures, record, seed


def test_each_figure_is_shown_and_added_to_the_file_that_is_named(
    figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "figures.jsonl"
    monkeypatch.setenv("TOWLINE_FIGURES", str(place))
    figures.show("kills, file", kills=2, jobs_lost=0)
    record("tests.simulation", "simulation", 7, {"schedules": 3})
    first, second = (json.loads(line) for line in place.read_text().splitlines())
    assert first.pop("test").endswith(
        "test_each_figure_is_shown_and_added_to_the_file_that_is_named"
    )
    assert first == {"what": "kills, file", "seed": seed(), "kills": 2, "jobs_lost": 0}
    assert second == {
        "test": "tests.simulation",
        "what": "simulation",
        "seed": 7,
        "schedules": 3,
    }


def test_without_a_file_they_are_only_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOWLINE_FIGURES", raising=False)
    monkeypatch.chdir(tmp_path)
    record("a test", "kills", 1, {"kills": 2})
    assert not any(tmp_path.iterdir())
