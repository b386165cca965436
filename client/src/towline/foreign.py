"""Types that know by themselves how they are written as JSON: pydantic models, and those with own
``to_dict()`` and ``from_dict()``.

They are known by their methods, so nothing is imported for them.
"""

from __future__ import annotations

import json
from typing import Any

from towline.codecs import Codec, Convert, Json, expected
from towline.errors import InvalidPayload


def is_model(hint: object) -> bool:
    """Whether it is a pydantic model, of pydantic 2 or later."""
    return isinstance(hint, type) and all(
        callable(getattr(hint, method, None)) for method in ("model_dump", "model_validate_json")
    )


def has_own_json(hint: object) -> bool:
    return isinstance(hint, type) and all(
        callable(getattr(hint, method, None)) for method in ("to_dict", "from_dict")
    )


def model_to_json(model: Any, path: str) -> Json:
    try:
        return model.model_dump(mode="json", by_alias=True, round_trip=True)
    except ValueError as error:
        raise InvalidPayload(f"{path}: {type(error).__name__}") from None


def model_codec(kind: Any) -> Codec:
    def encode(value: Any, path: str) -> Json:
        if not isinstance(value, kind):
            raise expected(kind.__name__, value, path)
        return model_to_json(value, path)

    def decode(data: Json, path: str) -> Any:
        try:
            # From text and not from the values: a strict model takes a date from JSON only.
            return kind.model_validate_json(json.dumps(data))
        except ValueError as error:
            # Without its own text, which quotes the data.
            raise InvalidPayload(_first_violation(error, path)) from None

    keys = {field.alias or name for name, field in kind.model_fields.items()}
    return Codec(kind.__name__, encode, decode, kind, frozenset(keys))


def _first_violation(error: ValueError, path: str) -> str:
    listed: Any = getattr(error, "errors", None)
    for violation in listed() if callable(listed) else ():
        place = ".".join((path, *(str(part) for part in violation.get("loc", ()))))
        return f"{place}: does not fit ({violation.get('type', type(error).__name__)})"
    return f"{path}: {type(error).__name__}"


def own_codec(kind: Any, plain: Convert) -> Codec:
    """``plain`` writes what ``to_dict()`` returns."""

    def encode(value: Any, path: str) -> Json:
        if not isinstance(value, kind):
            raise expected(kind.__name__, value, path)
        return plain(value.to_dict(), path)

    def decode(data: Json, path: str) -> Any:
        try:
            return kind.from_dict(data)
        except InvalidPayload:
            raise
        except Exception as error:
            raise InvalidPayload(f"{path}: {type(error).__name__}: {error}") from error

    return Codec(kind.__name__, encode, decode)
