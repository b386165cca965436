"""The pages of docs/: links lead on, the readme lists them, options exist."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from towline.cli.app import build

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])
BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#\s]*)(?:#(?P<place>[^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def named(page: Path) -> str:
    return page.name


@cache
def places(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    return frozenset(
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    )


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.finditer(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        target = (page.parent / link["path"]).resolve() if link["path"] else page
        assert target.exists(), f"there is no {link['path']}"
        if link["place"] and target.suffix == ".md":
            assert link["place"] in places(target), f"{target.name} has no #{link['place']}"


def test_the_readme_lists_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        page.name for page in PAGES if page.parent.name == "docs" and page.name not in readme
    ]
    assert missing == []


def options_of(command: Any) -> Iterator[str]:
    for parameter in command.params:
        yield from parameter.opts
    for below in getattr(command, "commands", {}).values():
        yield from options_of(below)


def test_who_comes_from_elsewhere_is_told_options_that_there_are() -> None:
    known = {"--version", "--help", *options_of(get_command(build()))}
    known |= {"--store", "--insecure"}  # of the broker
    page = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
    for row in re.findall(r"^\|.*\|$", BLOCK.sub("", page), re.MULTILINE):
        here = row.rstrip("| ").rpartition(" | ")[2]
        named = set(re.findall(r"(?<![\w-])--[a-z-]+[a-z]", here))
        assert named <= known, row
