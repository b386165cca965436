"""Running families of faults tells what failed, how to repeat it, and what was left out."""

import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import main
from tests.faults.families import FAMILIES, Family


class Families:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder

    def run(self, family: Family, *options: str) -> int:
        self._monkeypatch.setitem(FAMILIES, "own", family)
        arguments = ["own", "--folder", str(self._folder), *options]
        self._monkeypatch.setattr(sys, "argv", ["faults", *arguments])
        return main()

    @property
    def log(self) -> str:
        return (self._folder / "own.log").read_text()


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Families:
    monkeypatch.setenv("TOWLINE_SEED", "5")
    return Families(monkeypatch, tmp_path / "said")


def test_a_failure_comes_with_the_command_that_does_as_much_again(
    families: Families, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOWLINE_KILLS_OF_OWN", "7")
    sizes = {"KILLS_OF_OWN": (1, 2), "CUTS_OF_OWN": (3, 4)}
    assert families.run(Family("fails", [("tests.absent",)], sizes), "--full") == 1
    said = capsys.readouterr().out
    assert "own              FAILED" in said
    assert "No module named tests.absent" in said
    command = "TOWLINE_SEED=5 TOWLINE_KILLS_OF_OWN=7 python -m tests.faults own --full"
    assert f"again: {command}\n" in said


def test_what_was_left_out_is_told(
    families: Families, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "test_left_out.py"
    test.write_text("import pytest\n\ndef test_power():\n    pytest.skip('only root can')\n")
    assert families.run(Family("skips", [("pytest", "-q", "-ra", str(test))], {})) == 0
    assert "only root can" in capsys.readouterr().out


def test_a_size_of_ones_own_reaches_every_command(
    families: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_YEAR", "2031")
    assert families.run(Family("a calendar", [("calendar", "{YEAR}")], {"YEAR": (1, 2)})) == 0
    assert "2031" in families.log
