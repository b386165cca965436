"""All that can be set, as a list: for errors and documentation, and to tell what has changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from towline_broker.server.configuration.marks import EFFECT, Expected, Place, Secret, effect
from towline_broker.server.configuration.quantities import Bytes, Duration, in_bytes
from towline_broker.server.configuration.settings import ENV_DELIMITER, ENV_PREFIX, Settings

#: Stands in a place for a name that the operator chooses.
ANY_NAME = "NAME"

_WORDS: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "the path of a file",
}


@dataclass(frozen=True)
class Setting:
    """One that holds a value, not a section. ``annotation`` and ``metadata`` are those of its
    field, without None for "not set"."""

    place: Place
    annotation: Any
    metadata: tuple[Any, ...]
    default: Any
    description: str
    #: None: it was forgotten to say so.
    live: bool | None

    def fits(self, place: Place) -> bool:
        """``place`` is one of this setting."""
        return len(place) == len(self.place) and all(
            mine in (ANY_NAME, theirs) for mine, theirs in zip(self.place, place, strict=True)
        )

    def at(self, place: Place) -> Place:
        """Its place with the names in it that ``place`` has."""
        given = (*place, *self.place[len(place) :])
        return tuple(
            theirs if mine == ANY_NAME else mine
            for mine, theirs in zip(self.place, given, strict=False)
        )

    @property
    def variable(self) -> str:
        return ENV_PREFIX + ENV_DELIMITER.join(self.place).upper()

    @property
    def secret(self) -> bool:
        return any(isinstance(each, Secret) for each in self.metadata)

    def masked(self, shown: Any) -> Any:
        """What may be told of a value."""
        for each in self.metadata:
            if isinstance(each, Secret):
                return each.shown(str(shown))
        return shown

    @property
    def choices(self) -> tuple[str, ...]:
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else ()

    @property
    def expected(self) -> str:
        """In words, what its value must be."""
        for each in self.metadata:
            if isinstance(each, Expected):
                return each.text
            if isinstance(each, Duration):
                return f"a length of time, {each.bounds}"
            if isinstance(each, Bytes):
                return f"a size, {each.bounds}"
        if self.choices:
            *others, last = self.choices
            return f"{', '.join(others)} or {last}" if others else last
        if self.is_list:
            some = " of one at least" if self._bound("min_length") else ""
            return f"a list{some}; each of them {self.element.expected}"
        return _WORDS.get(self.annotation, "text") + self._bounds()

    @property
    def is_list(self) -> bool:
        return get_origin(self.annotation) in (list, tuple, set, frozenset)

    def _bounds(self) -> str:
        least, most, above, below = map(self._bound, ("ge", "le", "gt", "lt"))
        if least is not None and most is not None:
            return f", {least} to {most}"
        words = {"at least": least, "at most": most, "above": above, "below": below}
        return "".join(f", {word} {bound}" for word, bound in words.items() if bound is not None)

    def _bound(self, name: str) -> Any:
        found = (getattr(each, name, None) for each in self.metadata)
        return next((bound for bound in found if bound is not None), None)

    def written(self, value: Any) -> Any:
        """``value`` as it would stand in a file: text, number, true or false, or a list."""
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.element.written(each) for each in value]
        for each in self.metadata:
            if isinstance(each, Duration) and value is not None:
                return each.written(value)
            if isinstance(each, Bytes) and value is not None:
                return in_bytes(value)
        return value if isinstance(value, (str, int, float, NoneType)) else str(value)

    @property
    def element(self) -> "Setting":
        """Of a list: each of its values."""
        annotation, metadata = _given(next(iter(get_args(self.annotation)), str))
        return replace(self, annotation=annotation, metadata=metadata)


@cache
def all_settings() -> tuple[Setting, ...]:
    return tuple(settings_of(Settings))


def setting_at(place: Place) -> Setting | None:
    """Also of a value in a list; None if there is nothing to set there."""
    for setting in _alike(place[:1], len(place)):
        if setting.fits(place):
            return setting
    if place[-1:] and place[-1].isdecimal():
        for setting in _alike(place[:1], len(place) - 1):
            if setting.is_list and setting.fits(place[:-1]):
                return setting.element
    return None


@cache
def _alike(section: Place, length: int) -> tuple[Setting, ...]:
    found = (each for each in all_settings() if each.place[:1] == section)
    return tuple(setting for setting in found if len(setting.place) == length)


def settings_of(
    model: type[BaseModel], place: Place = (), live: bool | None = None
) -> Iterator[Setting]:
    """``live``: what the section itself is marked with."""
    for name, info in model.model_fields.items():
        yield from _of_field(info, (*place, name), live)


def _of_field(info: FieldInfo, place: Place, live: bool | None) -> Iterator[Setting]:
    extra = info.json_schema_extra
    if isinstance(extra, dict) and EFFECT in extra:
        live = extra[EFFECT] == effect(live=True)
    annotation, inner = _given(info.annotation)
    section = _section(annotation)
    if section is not None:
        yield from settings_of(section, place, live)
        return
    named = get_origin(annotation) in (dict, Mapping)
    if named:
        place = (*place, ANY_NAME)
        annotation, inner = _given(get_args(annotation)[1])
        section = _section(annotation)
        if section is not None:
            yield from settings_of(section, place, live)
            return
    default = None
    if not (named or info.is_required()):
        default = info.get_default(call_default_factory=True)
    metadata = (*info.metadata, *inner)
    yield Setting(place, annotation, metadata, default, info.description or "", live)


def _given(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a value is if there is one, and what is said of it."""
    found: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *metadata = get_args(annotation)
            for each in metadata:
                found += tuple(each.metadata) if isinstance(each, FieldInfo) else (each,)
        elif get_origin(annotation) in (Union, UnionType):
            kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
            if len(kinds) != 1:
                return annotation, found
            annotation = kinds[0]
        else:
            return annotation, found


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None
