"""The pages of the documentation, and the blocks of code in them."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Block(NamedTuple):
    """``page`` from the root of the repository; ``title``: what follows ``title=`` behind the
    language. A block that is indented, and not fenced, is of commands for a shell: ``sh``."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def pages() -> tuple[str, ...]:
    """What people read, from the root of the repository."""
    found = [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("examples/*/README.md"),
    ]
    return tuple(sorted(str(path.relative_to(ROOT)) for path in found))


@cache
def blocks_of(page: str) -> tuple[Block, ...]:
    """All of them, in their order."""
    return tuple(_blocks(page))


def blocks(page: str, language: str, title: str = "") -> list[str]:
    """The texts of these blocks of a page, of which there is one at least."""
    found = [
        block.text
        for block in blocks_of(page)
        if (block.language, block.title) == (language, title)
    ]
    assert found, f"{page} has no block of {language}"
    return found


def _blocks(page: str) -> Iterator[Block]:
    for token in MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type not in ("fence", "code_block"):
            continue
        assert token.map is not None
        language, _, rest = token.info.strip().partition(" ")
        kind, _, title = rest.partition("=")
        assert kind in ("", "title"), f"{page}:{token.map[0] + 1}: {token.info}"
        if token.type == "code_block":
            language = "sh"
        yield Block(page, token.map[0] + 1, language, title, token.content)
