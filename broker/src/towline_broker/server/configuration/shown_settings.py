"""Settings as text that could stand in a file, each with where it came from."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from towline_broker.server.configuration.catalogue import Setting, all_settings, setting_at
from towline_broker.server.configuration.marks import Place
from towline_broker.server.configuration.settings import Settings

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
#: What may stand in YAML without quotes; other keys were chosen by an operator, and could be "on".
_OURS = frozenset(part for setting in all_settings() for part in setting.place)

HEAD = "What towline-broker serve would start with; passwords are left out."
DEFAULT = "default"


@dataclass(frozen=True)
class Value:
    """One that is in effect. ``shown``: as it would stand in a file, without what is secret."""

    place: Place
    shown: Any
    origin: str


def values_of(settings: Settings, origin: Callable[[Place], str]) -> Iterator[Value]:
    """All that are set. ``origin``: where a value came from; empty for a default."""
    for setting, place, value in each_value(settings):
        if value is not None:
            shown = setting.written(value)
            yield Value(place, setting.masked(shown), origin(place) or DEFAULT)


def each_value(model: BaseModel, place: Place = ()) -> Iterator[tuple[Setting, Place, Any]]:
    """Every setting, under the names that the operator chose, and its value."""
    for name in type(model).model_fields:
        yield from _each(getattr(model, name), (*place, name))


def _each(value: Any, place: Place) -> Iterator[tuple[Setting, Place, Any]]:
    if isinstance(value, BaseModel):
        yield from each_value(value, place)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _each(each, (*place, name))
    elif setting := setting_at(place):
        yield setting, place, value


def to_toml(values: list[Value]) -> str:
    sections: dict[Place, list[Value]] = {(): []}
    for value in values:
        sections.setdefault(value.place[:-1], []).append(value)
    lines = [f"# {HEAD}"]
    for place, within in sections.items():
        if place:
            lines += ["", f"[{'.'.join(map(_toml_key, place))}]"]
        lines += [
            f"{_toml_key(each.place[-1])} = {_scalar(each.shown)}  # {each.origin}"
            for each in within
        ]
    return "\n".join(lines) + "\n"


def to_yaml(values: list[Value]) -> str:
    return "\n".join([f"# {HEAD}", *_yaml_lines(_nested(values), "")]) + "\n"


def to_json(values: list[Value]) -> str:
    def plain(section: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: each.shown if isinstance(each, Value) else plain(each)
            for key, each in section.items()
        }

    origins = {".".join(map(_toml_key, each.place)): each.origin for each in values}
    whole = {"settings": plain(_nested(values)), "origins": origins}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _nested(values: list[Value]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for value in values:
        section = nested
        for part in value.place[:-1]:
            section = section.setdefault(part, {})
        section[value.place[-1]] = value
    return nested


def _yaml_lines(section: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, each in section.items():
        name = key if key in _OURS else json.dumps(key)
        if isinstance(each, Value):
            yield f"{indent}{name}: {_scalar(each.shown)}  # {each.origin}"
        else:
            yield f"{indent}{name}:"
            yield from _yaml_lines(each, indent + "  ")


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _scalar(key)


def _scalar(value: Any) -> str:
    """What JSON, TOML and YAML write alike."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
