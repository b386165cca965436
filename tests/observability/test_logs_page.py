"""Every line of the broker's log has the name of an event, and docs/logs.md tells of each."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.pages import blocks

ROOT = Path(__file__).parents[2]
BROKER = ROOT / "broker" / "src" / "towline_broker"
PAGE = ROOT / "docs" / "logs.md"
LEVELS = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "error",
}
#: | `event` | level | `field`, `field` | meaning |
_ROW = re.compile(r"^\| `(\w+)` \| ([a-z, ]+) \|(.*?)\| .+ \|$", re.MULTILINE)


class Told(NamedTuple):
    levels: frozenset[str]
    fields: frozenset[str]


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Where a line is logged, at which level, and the call."""
    for path in sorted(BROKER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            if ast.unparse(node.func.value) == "log" and (name in LEVELS or name == "log"):
                yield f"{path.name}:{node.lineno}", LEVELS.get(name, ""), node


def _event(call: ast.Call) -> ast.Call | None:
    extras = [word.value for word in call.keywords if word.arg == "extra"]
    if len(extras) != 1 or not isinstance(extras[0], ast.Call):
        return None
    return extras[0] if ast.unparse(extras[0].func) == "event" else None


def _told() -> dict[str, Told]:
    found: dict[str, Told] = {}
    for _, level, call in _calls():
        event = _event(call)
        assert event is not None
        [name] = [arg.value for arg in event.args if isinstance(arg, ast.Constant)]
        known = found.get(str(name), Told(frozenset(), frozenset()))
        levels = known.levels | ({level} if level else set())
        fields = known.fields | {word.arg for word in event.keywords if word.arg}
        found[str(name)] = Told(levels, fields)
    return found


def _documented() -> dict[str, Told]:
    return {
        name: Told(
            frozenset(level.strip() for level in levels.split(",")),
            frozenset(re.findall(r"`(\w+)`", fields)),
        )
        for name, levels, fields in _ROW.findall(PAGE.read_text(encoding="utf-8"))
    }


def test_every_line_of_the_log_names_its_event() -> None:
    assert [place for place, _, call in _calls() if _event(call) is None] == []


def test_the_page_lists_every_event_with_its_levels_and_fields() -> None:
    told, documented = _told(), _documented()
    assert sorted(documented) == sorted(told)
    for name, (levels, fields) in told.items():
        assert levels <= documented[name].levels, name
        assert fields <= documented[name].fields, name


def test_lines_that_are_shown_have_an_event_and_its_fields() -> None:
    of_all = {"time", "level", "logger", "message", "event", "request"}
    (shown,) = blocks("docs/logs.md", "json")
    documented = _documented()
    for line in map(json.loads, shown.splitlines()):
        event = documented[line["event"]]
        assert line["level"] in event.levels
        assert line.keys() - of_all <= event.fields, line["event"]
