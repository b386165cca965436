"""Code for other systems, which the page about coming from them shows beside ours.

None of those systems is here, so that it cannot be run: Python is compiled, what is in other
languages is read by the lexers that colour it.
"""

import ast

import pytest
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.token import Error  # type: ignore[import-untyped]

from tests.documentation.takers import taken_by
from tests.support.pages import Block


@pytest.mark.parametrize("block", taken_by(__file__), ids=str)
def test_it_is_code_in_its_language(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    options = {"startinline": True} if block.language == "php" else {}
    lexer = get_lexer_by_name(block.language, **options)
    assert [text for kind, text in lexer.get_tokens(block.text) if kind is Error] == []
