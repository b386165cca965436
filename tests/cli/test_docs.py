"""docs/commands.md names commands, options and settings that there are."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.support.pages import blocks

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"## `{title}`\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", ["worker", "top", "check", "new job"])
def test_every_option_that_is_named_exists(towline: Command, command: str) -> None:
    named = set(re.findall(r"--[a-z][a-z-]*", section(f"towline {command}")))
    told = towline(*command.split(), "--help").out
    assert named
    assert {option for option in named if option not in told} == set()


def test_every_option_of_a_worker_is_named(towline: Command) -> None:
    told = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", towline("worker", "--help").out, re.M))
    assert told - {"--help", "--url"} == {
        option for option in told if option in section("towline worker")
    }


def test_every_command_that_is_named_exists(towline: Command) -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE.partition("## Settings")[0], re.M)
    group = ""
    for name in [name for row in rows for name in re.findall(r"`([a-z ]+)`", row)]:
        words = name.split()
        if towline(*words, "--help").code:
            words = [group, *words]  # `job show`, `list`: the second is of the same group
        else:
            group = words[0]
        assert towline(*words, "--help").code == 0, name


def test_the_settings_that_are_shown_are_taken(
    towline: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = blocks("docs/commands.md", "toml")
    assert tomllib.loads(text)["worker"]["module"] == "app.jobs"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "towline.toml").write_text(text)
    shown = " ".join(towline("worker", "--help").out.split())
    assert "default: emails=3, reports=1" in shown
    assert "default: 500MB" in shown
    assert "default: app/jobs" in " ".join(towline("new", "job", "--help").out.split())
