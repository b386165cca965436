"""What a log may say of a payload that cannot be decoded: where it is wrong, none of what it holds.

The whole message goes to the broker, as the failure of the job. In it may be numbers of the payload
and keys of its objects, and whatever a from_dict() or __post_init__() of the job's author says.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from towline import codecs, protobuf, records, registry, serialization, serializers
from towline.errors import InvalidPayload
from towline.registry import JobDefinition

_OURS = frozenset(
    module.__name__ for module in (codecs, protobuf, records, registry, serialization, serializers)
)


def reason(error: InvalidPayload, definition: JobDefinition) -> str:
    """Return the field, as far as it is a declared one, and what was expected there.

    Of an exception that the job's own code raised only the type is told.
    """
    where, expected = _read(str(error), definition)
    if error.__cause__ is not None:
        return f"{where}: {type(error.__cause__).__name__}"
    if not _is_ours(error):
        return f"{definition.type}: {type(error).__name__}"
    return f"{where}: {expected}"


def _read(message: str, definition: JobDefinition) -> tuple[str, str]:
    """The declared field that one of our messages is about, and what it says before any value."""
    job_class: Any = definition.job_class  # a dataclass, which its type does not say
    fields = dataclasses.fields(job_class)
    name = definition.job_class.__name__
    for path in [f"{name}.{field.name}" for field in fields] + [definition.type, name]:
        # A list's index is no secret; what follows a further dot may be a key of the payload.
        found = re.match(rf"({re.escape(path)}(?:\[\d+\])*)(: |\.)", message)
        if found is not None and found[2] == ": ":
            return found[1], re.split(r", got |: ", message[found.end() :], maxsplit=1)[0]
        if found is not None and path not in (definition.type, name):
            return found[1], "does not fit inside"
    return definition.type, "does not fit"


def _is_ours(error: InvalidPayload) -> bool:
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    return frames is not None and frames.tb_frame.f_globals.get("__name__") in _OURS
