"""What is said of a setting beside its type: what it is for, and when a change of it takes effect.

    timeout: Annotated[Wait, LIVE] = 30 * SECOND

and below it, as a docstring, what it is for. What a section is marked with holds for all in it that
has no mark of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

#: Where a setting stands: the names of its sections, and its own.
Place = tuple[str, ...]

#: The key of the JSON Schema under which it stands.
EFFECT = "x-takes-effect"


def effect(live: bool) -> str:
    """When a change takes effect, in words."""
    return "on reload" if live else "at the next start"


#: A running broker takes a change over when it rereads its settings.
LIVE: Any = Field(json_schema_extra={EFFECT: effect(live=True)})
#: A running broker keeps to what it was started with.
AT_START: Any = Field(json_schema_extra={EFFECT: effect(live=False)})


class Section(BaseModel):
    """Settings that belong together. What stands below a field, as a docstring, describes it: in
    the documentation, and to editors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Expected:
    """In words, what a value must be, where its type does not say it."""

    text: str


def _nothing(text: str) -> str:
    return "***"


@dataclass(frozen=True)
class Secret:
    """An error never tells the value, and ``config show`` only what ``shown`` makes of it."""

    shown: Callable[[str], str] = _nothing
