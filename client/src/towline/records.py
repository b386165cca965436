"""Dataclasses as objects of their fields, generic ones with what their type variables stand for."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from towline.codecs import Codec, Json, expected
from towline.errors import InvalidJob, InvalidPayload

Build: TypeAlias = Callable[[Any, str], Codec]
"""From the type of a field and its path to how it is written. Raises InvalidJob."""

_MISSING: Any = dataclasses.MISSING


class Record:
    """A dataclass as an object; ``fill`` finds out how its fields are written.

    ``hint`` is the dataclass, or a generic one with its arguments, such as ``Page[int]``.
    """

    def __init__(self, hint: Any) -> None:
        self._hint = hint
        self._kind: type = typing.get_origin(hint) or hint
        self._fields: list[tuple[dataclasses.Field[Any], Codec]] = []
        self.hints: dict[str, Any] = {}
        """The types of the fields, by their names."""

    def fill(self, build: Build, path: str) -> None:
        self.hints = _types_of_fields(self._hint, self._kind, path)
        self._fields = [
            (field, build(self.hints[field.name], f"{path}.{field.name}"))
            for field in dataclasses.fields(self._kind)
            if field.init
        ]

    @property
    def fields(self) -> list[str]:
        """The names of the fields that are written."""
        return [field.name for field, _ in self._fields]

    @property
    def codec(self) -> Codec:
        return Codec(self._kind.__name__, self.encode, self.decode)

    def encode(self, value: Any, path: str) -> Json:
        name = self._kind.__name__
        if not isinstance(value, self._kind):
            raise expected(name, value, path)
        if type(value) is not self._kind:
            raise InvalidPayload(
                f"{path}: a {type(value).__name__} would come back as a {name}; declare "
                f"{name} | {type(value).__name__}"
            )
        return self.encode_fields(value, path)

    def encode_fields(self, value: Any, path: str) -> dict[str, Json]:
        return {
            field.name: codec.encode(getattr(value, field.name), f"{path}.{field.name}")
            for field, codec in self._fields
        }

    def decode(self, data: Json, path: str) -> Any:
        arguments = self.decode_fields(data, path)
        try:
            return self._kind(**arguments)
        except Exception as error:
            # Its own checks, in __post_init__.
            raise InvalidPayload(f"{path}: {type(error).__name__}: {error}") from error

    def decode_fields(self, data: Json, path: str) -> dict[str, Any]:
        """The arguments of the dataclass; a missing one that has a default is left to it."""
        if not isinstance(data, Mapping):
            raise expected("an object", data, path)
        arguments = {}
        for field, codec in self._fields:
            if field.name in data:
                arguments[field.name] = codec.decode(data[field.name], f"{path}.{field.name}")
            elif field.default is _MISSING and field.default_factory is _MISSING:
                raise InvalidPayload(f"{path}.{field.name}: is missing and has no default")
        return arguments


def _types_of_fields(hint: Any, kind: type, path: str) -> dict[str, Any]:
    # A dataclass written in a function can name itself or nothing; get_type_hints sees globals.
    hints = typing.get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    for name, declared in hints.items():
        if isinstance(declared, dataclasses.InitVar):
            raise InvalidJob(
                f"{path}.{name}: an InitVar is no field, so it would be lost on the way: make it "
                "a field"
            )
    meanings = _meanings(hint)
    if not meanings:
        return hints
    owners = {
        name: owner for owner in reversed(kind.__mro__) for name in inspect.get_annotations(owner)
    }
    return {
        name: _substituted(declared, meanings.get(owners[name], {}))
        for name, declared in hints.items()
    }


def _meanings(hint: Any) -> dict[type, dict[Any, Any]]:
    """What the type variables of a generic class, and of each of its bases, stand for."""
    kind = typing.get_origin(hint) or hint
    parameters = getattr(kind, "__parameters__", ())
    own = dict(zip(parameters, typing.get_args(hint), strict=False))
    meanings = {kind: own} if parameters else {}
    for base in vars(kind).get("__orig_bases__", kind.__bases__):
        if typing.get_origin(base) not in (typing.Generic, typing.Protocol):
            meanings.update(_meanings(_substituted(base, own)))
    return meanings


def _substituted(hint: Any, meaning: Mapping[Any, Any]) -> Any:
    """A type with its variables replaced; one that stands for nothing takes any value."""
    if isinstance(hint, typing.TypeVar):
        return meaning.get(hint, hint.__bound__ or Any)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or typing.get_origin(hint) is None:  # a class is no type with arguments
        return hint
    return hint[tuple(_substituted(parameter, meaning) for parameter in parameters)]
