"""A file of settings, in TOML, YAML or JSON: what it says, and in which line."""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from towline_broker.server.configuration.marks import Place
from towline_broker.server.exits import ConfigError
from towline_broker.server.open_files import open_to_read

#: More than anybody sets; a file of this size was named by mistake.
MOST_BYTES = 4 << 20
#: Where files of JSON say by which schema editors should check them.
SCHEMA_KEY = "$schema"


@dataclass(frozen=True)
class SettingsFile:
    path: Path
    values: Mapping[str, Any] = field(repr=False)
    text: str = field(repr=False)

    def line_of(self, place: Place) -> int | None:
        """The line, from 1, in which the value or the section begins; None if nobody can tell."""
        if self.path.suffix.lower() == ".toml":
            return _line_in_toml(self.text, place)
        return _line_in_yaml(self.text, place)


def read_file(path: Path) -> SettingsFile:
    """Raises ConfigError, which names the file and, if it can be told, the line."""
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigError(
            f"configuration file {path}: expected a name that ends in .toml, .yaml, .yml or .json"
        )
    try:
        with open_to_read(path) as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        reason = error.strerror
        raise ConfigError(f"cannot read the configuration file {path}: {reason}") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"cannot read the configuration file {path}: it is not UTF-8 text"
        ) from None
    if len(content) > MOST_BYTES:
        raise ConfigError(f"configuration file {path}: larger than {MOST_BYTES >> 20} MiB")
    try:
        values = parse(text)
    except _Broken as error:
        raise ConfigError(f"configuration file {path} cannot be read: {error}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"configuration file {path}: expected settings by name at its top")
    if isinstance(values.get(SCHEMA_KEY), str):
        del values[SCHEMA_KEY]
    return SettingsFile(path, values, text)


class _Broken(Exception):
    """Where the text breaks the rules of its format, and how; never the text itself, which may hold
    a password."""


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _Broken(error) from None


def _parse_json(text: str) -> Any:
    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise _Broken(f"{key!r} stands in it twice")
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise _Broken(error) from None
    except RecursionError:
        raise _Broken("it is nested too deeply") from None


def _parse_yaml(text: str) -> Any:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _check_unique(node)
        return yaml.safe_load(text) or {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        what = ", ".join(filter(None, (error.context, error.problem)))
        raise _Broken(f"{what}{where}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _Broken(" ".join(str(error).split())) from None
    except RecursionError:
        raise _Broken("it is nested too deeply") from None


def _check_unique(node: Any) -> None:
    """YAML forbids to say a thing twice; its library takes the last one."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen = set()
    for key, value in node.value:
        if key.value in seen:
            raise _Broken(f"{key.value!r} stands in it twice (at line {key.start_mark.line + 1})")
        seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        _check_unique(value)


_PARSERS: Mapping[str, Callable[[str], Any]] = {
    ".toml": _parse_toml,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".json": _parse_json,
}


def _line_in_yaml(text: str, place: Place) -> int | None:
    """Of JSON, too, which is YAML unless it is indented by tabs."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    line = None
    for part in place:
        found = next((pair for pair in _pairs(node) if pair[0] == part), None)
        if found is None:
            return None
        _, line, node = found
    return line


def _pairs(node: Any) -> Iterator[tuple[str, int, Any]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield str(key.value), key.start_mark.line + 1, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield str(index), value.start_mark.line + 1, value


def _line_in_toml(text: str, place: Place) -> int | None:
    """The library does not tell lines. But what is in the file after a line and was not before it
    stands in that line; where a value goes over several lines, the file ends well only after the
    last of them.
    """
    lines = text.splitlines(keepends=True)
    before, after = 0, len(lines)
    while after - before > 1:
        middle = (before + after) // 2
        ends = _ends_well(lines, middle, range(middle, before, -1))
        if ends is None:
            ends = _ends_well(lines, middle, range(middle + 1, after))
        if ends is None:
            break
        count, values = ends
        if _holds(values, place):
            after = count
        else:
            before = count
    for number, line in enumerate(lines[before:after], before + 1):
        if line.strip() and not line.lstrip().startswith("#"):
            return number
    return None


def _ends_well(
    lines: Sequence[str], middle: int, counts: Sequence[int]
) -> tuple[int, dict[str, Any]] | None:
    """The first of these counts of lines that make a whole file, and what it says."""
    for count in counts:
        try:
            return count, tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
    return None


def _holds(values: Any, place: Place) -> bool:
    for part in place:
        if isinstance(values, dict) and part in values:
            values = values[part]
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            return False
    return True
