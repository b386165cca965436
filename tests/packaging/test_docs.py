"""docs/deploying.md: what it names is there."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tests.packaging.dockerfile import stages
from tests.support.pages import blocks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text()
LINES = [line for text in blocks("docs/deploying.md", "sh") for line in text.splitlines()]
VERSION = tomllib.loads((ROOT / "broker/pyproject.toml").read_text())["project"]["version"]


def lines_with(*words: str) -> list[list[str]]:
    found = [shlex.split(line) for line in LINES]
    return [line for line in found if all(word in line for word in words)]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"deploy/[\w./-]*\w", PAGE))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    if not path.startswith("deploy/compose/secrets"):
        assert (ROOT / path).exists()


def test_every_extra_has_its_row() -> None:
    project = tomllib.loads((ROOT / "broker/pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.partition("## systemd")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"\w+", row)}
    assert named == extras - {"testing"}


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
