"""What ``towline`` offers is told where people look: help() of each name says what it is, and the
reference of the SDK has it."""

import importlib
import inspect
import re
from collections.abc import Iterator

import pytest

import towline
from tests.support.pages import DOCS, ROOT, blocks_of, pages

CLASSES = [name for name in towline.__all__ if inspect.isclass(getattr(towline, name))]
#: What the reference has as a whole. Of other modules it has what people come across.
MODULES = [
    "towline",
    "towline.contrib.django",
    "towline.contrib.sqlalchemy",
    "towline.middleware",
    "towline.testing",
    "towline.worker",
]


def reference() -> Iterator[str]:
    """Each name with its module, as in ``towline.Job``."""
    for page in sorted((DOCS / "sdk").glob("*.rst")):
        module = ""
        directives = re.findall(r"^\.\. (\w+):: ([\w.]+)", page.read_text("utf-8"), re.MULTILINE)
        for directive, argument in directives:
            if directive == "currentmodule":
                module = argument
            elif directive.startswith("auto") and directive != "automodule":
                yield f"{module}.{argument}"


NAMES = list(reference())


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_has_every_public_name(module: str) -> None:
    offered = importlib.import_module(module)
    told = [thing(name) for name in NAMES]
    missing = [
        name for name in offered.__all__ if not any(getattr(offered, name) is each for each in told)
    ]
    assert missing == []


def thing(name: str) -> object:
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_the_reference_has_each_name_once() -> None:
    assert sorted(set(NAMES)) == sorted(NAMES)


def test_what_pages_and_examples_import_is_public() -> None:
    codes = [block.text for page in pages() for block in blocks_of(page)]
    codes += [path.read_text("utf-8") for path in (ROOT / "examples").rglob("*.py")]
    found = {
        f"{module}.{name.strip()}"
        for code in codes
        for module, names in re.findall(r"^ *from (towline[\w.]*) import \(?([\w, ]+)", code, re.M)
        if not module.startswith(("towline.v1", "towline_"))
        for name in names.split(",")
        if name.strip()
    }
    told = [thing(name) for name in NAMES]
    modules = {name for name in found if name in MODULES}
    assert [name for name in found - modules if not any(thing(name) is each for each in told)] == []


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_says_what_it_is(name: str) -> None:
    cls = getattr(towline, name)
    told = vars(cls).get("__doc__")
    assert told, f"help(towline.{name}) would tell of {cls.__base__} or of nothing"
    assert not told.startswith(f"{name}("), "made by dataclass"


def test_what_it_offers_is_sorted_and_named_once() -> None:
    assert sorted(set(towline.__all__)) == towline.__all__
