"""The generated parts of docs/configuration.md; ``python -m tests.configuration.page`` makes them.

They are what the broker itself says: its settings as it reads them, and what each mistake of
:mod:`.mistakes` gets.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typer.testing import CliRunner

from tests.configuration.mistakes import MISTAKES, Mistake
from towline_broker.cli import app
from towline_broker.server.configuration.catalogue import ANY_NAME, Setting, all_settings
from towline_broker.server.configuration.explaining import dotted
from towline_broker.server.configuration.marks import Place

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
PART = re.compile(
    r"(?P<begin><!-- made by: make settings-docs \((?P<name>[a-z]+)\) -->\n).*?"
    r"(?P<end><!-- end -->)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Said:
    """Of a command. ``lines``: on standard error, without the introduction and without warnings."""

    code: int
    lines: list[str]


def page() -> str:
    """As it should be."""
    made = {"settings": settings_table(), "mistakes": mistakes_list()}
    parts = {name: "\n".join(lines).strip() for name, lines in made.items()}
    return PART.sub(
        lambda part: f"{part['begin']}\n{parts[part['name']]}\n\n{part['end']}",
        PAGE.read_text(encoding="utf-8"),
    )


def settings_table() -> Iterator[str]:
    sections: dict[Place, list[Setting]] = {(): []}
    for setting in all_settings():
        sections.setdefault(setting.place[:-1], []).append(setting)
    for section, settings in sections.items():
        yield from ("", f"### `[{dotted(section)}]`", "") if section else ()
        yield "| setting, variable | default | what it must be | on reload | what it is for |"
        yield "|---|---|---|---|---|"
        yield from map(_row, settings)


def _row(setting: Setting) -> str:
    name, default = setting.place[-1], setting.written(setting.default)
    cells = [
        f"{'*NAME*' if name == ANY_NAME else f'`{name}`'}<br>`{setting.variable}`",
        "" if default is None else f"`{_as_toml(default)}`",
        setting.expected,
        "yes" if setting.live else "no",
        " ".join(setting.description.split()).replace("``", "`"),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_as_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def mistakes_list() -> Iterator[str]:
    for title, mistakes in MISTAKES.items():
        yield from ("", f"### {title}", "")
        yield from ("| what is wrong | what is said |", "|---|---|")
        for mistake in mistakes:
            yield f"| {_cell(mistake.source)} | {_cell(said_of(mistake).lines)} |"


def _cell(lines: list[str]) -> str:
    return "<br>".join(f"`{line.strip()}`".replace("|", "\\|") for line in lines if line.strip())


@cache
def said_of(mistake: Mistake) -> Said:
    """What ``config check`` says, in a folder in which nothing else is."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), _only(mistake.variables):
        options = list(mistake.options)
        if mistake.file is not None:
            content = mistake.file.encode() if isinstance(mistake.file, str) else mistake.file
            Path(mistake.name).write_bytes(content)
            options += ["--config", mistake.name]
        if mistake.dotenv:
            Path(".env").write_text(mistake.dotenv, encoding="utf-8")
        result = CliRunner().invoke(app, ["config", "check", *options])
    lines = result.stderr.replace("towline-broker: wrong settings:\n", "").splitlines()
    if result.exit_code == 2:  # how to use the command comes first
        lines = [line for line in lines if line.startswith("Error")]
    return Said(result.exit_code, [line for line in lines if not line.startswith("warning: ")])


@contextmanager
def _only(variables: Mapping[str, str]) -> Iterator[None]:
    """Of the broker's variables only these."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("TOWLINE_")]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
