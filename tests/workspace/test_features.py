"""docs/features.md: every test that it names as a proof is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "features.md"
ROW = re.compile(r"^\| (?P<id>[A-Z]\d+) \| .* \| (?P<proof>[^|]*) \|$", re.MULTILINE)
PROOF = re.compile(r"`(?P<path>tests/[\w/]+\.py)(?:::(?P<test>\w+))?`")
#: Of each group, by its letter, how many rows there are.
GROUPS = {"J": 14, "D": 8, "S": 10, "W": 9, "F": 4, "M": 8, "C": 2, "T": 3, "A": 5, "P": 6}

ROWS = [(row["id"], row["proof"]) for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))]


@cache
def named_tests(path: str) -> frozenset[str]:
    """The functions of a file that pytest runs, also those of classes."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
    )


def test_every_promise_has_its_row() -> None:
    assert [row for row, _ in ROWS] == [
        f"{letter}{number}" for letter, last in GROUPS.items() for number in range(1, last + 1)
    ]


@pytest.mark.parametrize(("row", "proof"), ROWS)
def test_the_proofs_of_a_row_exist(row: str, proof: str) -> None:
    proofs = list(PROOF.finditer(proof))
    assert proofs, f"{row} has no proof"
    assert PROOF.sub("", proof).strip() == "", f"{row}: what is this?"
    for each in proofs:
        assert (ROOT / each["path"]).is_file(), f"{row}: there is no {each['path']}"
        if each["test"]:
            assert each["test"] in named_tests(each["path"]), f"{row}: there is no {each[0]}"
