"""docs/dependencies.md and the bills of materials say what Towline depends on."""

import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from scripts import dependencies, licences
from scripts.dependencies import Package, Unknown, closure, direct, package, pinned
from scripts.sbom import bill_of_materials


def test_the_page_is_what_make_licences_writes() -> None:
    assert licences.PAGE.read_text() == licences.page(), "run: make licences"


def test_it_lists_every_package_that_is_pinned_and_no_other_in_its_version() -> None:
    tables = licences.PAGE.read_text().partition("## Licences that ask for more")[0]
    rows = re.findall(r"^\| (?!package )(.+) \|$", tables, re.MULTILINE)
    listed = {canonicalize_name(row.split(" | ")[0]): row.split(" | ") for row in rows}
    assert {name: version in listed.get(name, []) for name, version in pinned().items()} == (
        dict.fromkeys(pinned(), True)
    )
    assert set(listed) - set(pinned()) == set()


@pytest.mark.parametrize("project", ["towline", "towline-broker"])
def test_what_a_distribution_brings_is_licensed_permissively(project: str) -> None:
    brought = closure(project, frozenset({"testing"})).values()
    assert [f"{each.name}: {each.licence}" for each in brought if each.is_copyleft] == []


def test_one_permissive_choice_is_enough_and_of_several_together_each_counts() -> None:
    assert not Package("x", "1", "GPL-3.0-only OR MIT").is_copyleft
    assert Package("x", "1", "GPL-3.0-only AND MIT").is_copyleft
    assert Package("x", "1", "LGPL-3.0-only").is_copyleft


def test_what_is_used_for_nothing_that_is_said_or_nobody_judged_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = dependencies.Notes({}, dependencies.notes().licences, {})
    monkeypatch.setattr(licences, "notes", lambda: empty)
    with pytest.raises(Unknown, match="grpcio: say what it is used for"):
        list(licences.asked_by("towline"))
    with pytest.raises(Unknown, match="psycopg: not a permissive licence"):
        licences.copyleft([package("psycopg")])


def test_a_bill_of_materials_is_valid_complete_and_always_the_same(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    wheel.write_bytes(b"x")
    # Writing it checks it against its schema.
    text = bill_of_materials("towline-broker", wheel, 1)
    assert text == bill_of_materials("towline-broker", wheel, 1)
    for each in direct("towline-broker"):
        if each.extra != "testing" and each.key in pinned():
            assert f'"pkg:pypi/{each.key}@{pinned()[each.key]}"' in text
    assert "hypothesis" not in text
