"""docs/deploying.md, and the readme of each distribution: what they name is there."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tests.packaging.dockerfile import stages
from towline.cli.app import build
from towline_broker.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text()
LINE = r"^    (\S.*)$"
LINES = re.findall(LINE, PAGE, re.MULTILINE)
VERSION = tomllib.loads((ROOT / "broker/pyproject.toml").read_text())["project"]["version"]


def lines_with(*words: str) -> list[list[str]]:
    found = [shlex.split(line) for line in LINES]
    return [line for line in found if all(word in line for word in words)]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"deploy/[\w./-]*\w", PAGE))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    if not path.startswith("deploy/compose/secrets"):
        assert (ROOT / path).exists()


@pytest.mark.parametrize("page", ["docs/deploying.md", "client/README.md", "broker/README.md"])
@pytest.mark.parametrize(
    ("program", "command"),
    [("towline-broker", get_command(app)), ("towline", get_command(build()))],
)
def test_every_command_has_the_options_that_are_named(
    program: str, command: Any, page: str
) -> None:
    text = (ROOT / page).read_text()
    written = [*re.findall(LINE, text, re.MULTILINE), *re.findall(r"`([^`]+)`", text)]
    calls = [
        each for line in written for each in re.findall(rf"(?<![\w-]){program} ([^>|]+)", line)
    ]
    for call in calls:
        found = command
        for word in shlex.split(call, comments=True):
            if word in getattr(found, "commands", {}):
                found = found.commands[word]
            elif word.startswith("--"):
                options = {option for each in found.params for option in each.opts}
                assert word in {*options, "--help", "--install-completion"}, call


def test_every_extra_that_is_installed_is_there_and_has_its_row() -> None:
    extras = {
        project: set(
            tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"][
                "optional-dependencies"
            ]
        )
        for project, folder in (("towline-broker", "broker"), ("towline", "client"))
    }
    for project, extra in re.findall(r"'(towline(?:-broker)?)\[(\w+)\]'", PAGE):
        assert extra in extras[project]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.partition("## systemd")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\w+", row)}
    assert named == extras["towline-broker"] - {"testing"}


def test_what_is_built_and_run_has_the_version_of_the_broker() -> None:
    tags = re.findall(r"towline-broker:([\d.]+\d)", PAGE)
    wheels = re.findall(r"towline(?:_broker)?-([\d.]+\d)-py3", PAGE)
    assert {*tags, *wheels} == {VERSION}


def test_what_is_given_to_a_build_can_be() -> None:
    (before, building, final) = stages(ROOT / "deploy/container/Dockerfile")
    known = {
        name for each in (*before, *building, *final) if each.name == "ARG" for name in each.values
    }
    assert set(re.findall(r"--build-arg (\w+)=", PAGE)) <= known


def test_what_is_installed_for_systemd_is_all_of_it_and_where_the_unit_looks() -> None:
    copied = {line[-2]: line[-1] for line in lines_with("install") if "deploy" in line[-2]}
    files = {f"deploy/systemd/{path.name}" for path in (ROOT / "deploy/systemd").iterdir()}
    assert set(copied) == files
    unit = (ROOT / "deploy/systemd/towline-broker.service").read_text()
    assert f"TOWLINE_CONFIG={copied['deploy/systemd/broker.toml']}" in unit
    assert "User=towline" in unit


def test_the_secrets_that_are_made_are_those_that_pods_want() -> None:
    made = {line[4] for line in lines_with("kubectl", "create", "secret")}
    manifests = "".join(path.read_text() for path in (ROOT / "deploy/kubernetes").rglob("*.yaml"))
    wanted = set(re.findall(r"secretName: ([\w-]+)", manifests))
    assert made == wanted | set(re.findall(r"secretKeyRef: \{name: ([\w-]+)", manifests))
