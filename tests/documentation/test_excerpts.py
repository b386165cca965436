"""Blocks that are taken from an example stand in its file."""

import re

import pytest

from tests.documentation.takers import taken_by
from tests.support.pages import ROOT, Block


@pytest.mark.parametrize("excerpt", taken_by(__file__), ids=str)
def test_an_excerpt_stands_in_the_file_that_it_names(excerpt: Block) -> None:
    text = (ROOT / excerpt.title).read_text(encoding="utf-8")
    for part in re.split(r"^ *\.\.\.\n", excerpt.text, flags=re.MULTILINE):
        assert part.strip("\n") in text, f"{excerpt.title} reads otherwise than {excerpt}:\n{part}"
