"""The documentation site, as Sphinx builds it (`make docs`): the Markdown of docs/ as it is, the
sidebar of navigation.toml, and the docstrings of the SDK.

The source folder is the root of the repository, so that links out of docs/ lead where they lead on
a code host.
"""

import re
import shutil
import sys
import tomllib
from pathlib import Path

from docutils import nodes  # type: ignore[import-untyped]
from pygments.lexers.special import TextLexer  # type: ignore[import-untyped]
from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from scripts.site.docstrings import as_rest  # noqa: E402 - Sphinx runs this file by itself

project = "Towline"
version = release = tomllib.loads((ROOT / "broker" / "pyproject.toml").read_text())["project"][
    "version"
]
copyright = "the authors of Towline; Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
# Those that are not walked through in search of pages, besides.
exclude_patterns = [
    *(".*", "build", "dist", "**/node_modules", "**/__pycache__"),
    *("bench", "broker", "client", "deploy", "examples", "protos", "requirements"),
    *("scripts", "tests"),
]

# Pages: Markdown as code hosts read it.
myst_heading_anchors = 4
smartquotes = False

# Docstrings: plain text with `code` and indented examples.
default_role = "code"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"Towline {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_search_scorer = str(HERE / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]\[]+)\]\((?P<path>[^):#\s]+)(?P<place>#[^)\s]+)?\)")


def navigation() -> str:
    """The sidebar, as MyST reads it."""
    parts = tomllib.loads((HERE / "navigation.toml").read_text(encoding="utf-8"))["part"]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {part['caption']}\n\n"
        + "\n".join(f"/{page}" for page in part["pages"])
        + "\n```\n"
        for part in parts
    )


def with_links_for_readers(text: str, page: Path) -> str:
    """A link whose text is the name of a page gets the title of that page for its text. A folder of
    the repository is none of the site: what named it stays, the link goes."""

    def replaced(link: re.Match[str]) -> str:
        if (page.parent / link["path"]).is_dir():
            return link["text"]
        if re.fullmatch(r"[\w./-]+\.md", link["text"]):
            return f"[]({link['path']}{link['place'] or ''})"
        return link[0]

    return _LINK.sub(replaced, text)


def read_page(app: Sphinx, name: str, content: list[str]) -> None:
    page = Path(app.env.doc2path(name))
    if page.suffix == ".md":
        content[0] = with_links_for_readers(content[0], page)
    if name == app.config.root_doc:
        content[0] += navigation()
    if name == "docs/decisions/README":
        content[0] += "\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def mark_commands(app: Sphinx, tree: nodes.document) -> None:
    """Blocks that are indented, and not fenced, are of commands."""
    for block in tree.findall(nodes.literal_block):
        if block.get("language") == "none":
            block["language"] = "sh"


def read_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = as_rest(lines)


def begin_at_index(app: Sphinx, error: Exception | None) -> None:
    """The start page is the README; it is also found where a server looks for a start page."""
    if error is None and app.builder.format == "html":
        shutil.copyfile(Path(app.outdir) / "README.html", Path(app.outdir) / "index.html")


def setup(app: Sphinx) -> None:
    for language in ("haproxy", "cron", "redis", "conf"):  # none of which Pygments knows
        app.add_lexer(language, TextLexer)
    app.connect("source-read", read_page)
    app.connect("doctree-read", mark_commands)
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("build-finished", begin_at_index)
