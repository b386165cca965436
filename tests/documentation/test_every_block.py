"""Every block of code in the documentation is run, or read by what it is written for."""

import ast
import re

import pytest

from tests.documentation.takers import TAKERS, taker_of
from tests.support.pages import ROOT, Block, blocks_of, pages


@pytest.mark.parametrize("page", [page for page in pages() if blocks_of(page)])
def test_somebody_takes_each_block_of_a_page(page: str) -> None:
    left = [f"{block} ({block.language or 'no language'})" for block in untaken(page)]
    assert left == [], "no test takes these: see tests/documentation/takers.py"


def untaken(page: str) -> list[Block]:
    return [block for block in blocks_of(page) if taker_of(block) is None]


def test_nobody_is_named_who_takes_nothing() -> None:
    taking = {taker_of(block) for page in pages() for block in blocks_of(page)}
    assert [taker for taker in TAKERS if taker not in taking] == []


@pytest.mark.parametrize("file", sorted({taker.test for taker in TAKERS}))
def test_who_takes_blocks_has_tests(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert any(isinstance(node, functions) and node.name.startswith("test") for node in tree.body)


def test_the_reference_of_the_sdk_has_no_blocks_of_its_own() -> None:
    for page in (ROOT / "docs" / "sdk").glob("*.rst"):
        assert not re.search(
            r"code-block|literalinclude|(?<!toctree)::$", page.read_text("utf-8"), re.MULTILINE
        )
