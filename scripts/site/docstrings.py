"""Docstrings of the SDK as reStructuredText.

They are written to be read in an editor and by help(): paragraphs, examples that are indented, and
lists of two columns, a name and what it means. Sphinx has to be told which is which.
"""

import ast
import re
import textwrap
from collections.abc import Iterator

_PAGE = re.compile(r"\bdocs/([\w-]+)\.md\b")
_ROW = re.compile(r"(?P<name>\S.*?)(?:\s{2,}(?P<text>\S.*)|$)")


def as_rest(lines: list[str]) -> list[str]:
    """The lines of a docstring, without the indentation that all have."""
    told: list[str] = []
    for block in _blocks(lines):
        if block[0].startswith("    "):
            told += _example(block)
        elif _has_columns(block):
            told += _columns(block)
        else:
            told += block
        told.append("")
    return [_PAGE.sub(r":doc:`/docs/\1`", line) for line in told]


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Paragraphs; an example goes on over its blank lines."""
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            if block and not block[-1] and not line.startswith("    "):
                yield _stripped(block)
                block = []
            block.append(line)
        elif block and block[0].startswith("    "):
            block.append("")
        elif block:
            yield block
            block = []
    if block:
        yield _stripped(block)


def _stripped(block: list[str]) -> list[str]:
    return "\n".join(block).rstrip().split("\n")


def _example(block: list[str]) -> Iterator[str]:
    try:
        ast.parse(textwrap.dedent("\n".join(block)))
        language = "python"
    except SyntaxError:
        language = "text"
    yield from (f".. code-block:: {language}", "", *block)


def _has_columns(block: list[str]) -> bool:
    return any(re.match(r"\S.*?\S {2,}\S", line) for line in block) and not block[0].startswith(
        "- "
    )


def _columns(block: list[str]) -> Iterator[str]:
    """A list of definitions. A name may stand alone in its line, above what it means."""
    for index, line in enumerate(block):
        following = block[index + 1] if index + 1 < len(block) else ""
        if line.startswith(" "):
            yield f"    {line.strip()}"
            continue
        row = _ROW.match(line)
        if row is None or (row["text"] is None and not following.startswith(" ")):
            if index and block[index - 1].startswith(" "):
                yield ""
            yield line  # what is said of all of them, below the list
            continue
        yield f"``{row['name']}``"
        if row["text"] is not None:
            yield f"    {row['text']}"
