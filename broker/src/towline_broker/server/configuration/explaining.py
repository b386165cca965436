"""What is said of a wrong value: where it stands, and what was expected."""

import difflib
import json
import re
from collections.abc import Iterable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.catalogue import (
    ANY_NAME,
    Setting,
    all_settings,
    setting_at,
)
from towline_broker.server.configuration.marks import Place
from towline_broker.server.configuration.merging import Merged
from towline_broker.server.configuration.store_settings import Mistakes

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
#: The most of a wrong value that is told.
_MOST_SHOWN = 64


def explain(error: ValidationError, merged: Merged) -> list[str]:
    """A line for each mistake. A value that may be secret is never told."""
    errors = error.errors()
    places = {details["loc"] for details in errors}
    # Of a list with a wrong value in it, the list itself is called too short.
    told = [
        each for each in errors if each["type"] != "too_short" or not _is_above(each["loc"], places)
    ]
    return [line for details in told for line in _explain(details, merged)]


def dotted(place: Place) -> str:
    """As it would stand in a file of TOML: names that hold a dot in quotes."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else f'"{part}"' for part in place)


def _is_above(place: tuple[int | str, ...], others: Iterable[tuple[int | str, ...]]) -> bool:
    return any(len(other) > len(place) and other[: len(place)] == place for other in others)


def _explain(details: ErrorDetails, merged: Merged) -> list[str]:
    place = tuple(str(part) for part in details["loc"] if part != "[key]")
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Mistakes):
        return [_line(at, what, merged) for at, what in cause.found]
    setting = setting_at(place)
    if details["type"] == "extra_forbidden":
        return [_line(place, f"no such setting{_nearest(place)}", merged)]
    if details["type"] != "value_error":
        return [_line(place, _unfit(details, setting, place), merged)]
    message = details["msg"].removeprefix("Value error, ")
    if setting is None:  # values that do not go together: the message names them
        return [_of_several(place, message, merged)]
    is_name = details["loc"][-1] == "[key]"
    shown = "it" if setting.secret and not is_name else _shown(details["input"])
    return [_line(place, message.replace(repr(details["input"]), shown), merged)]


def _unfit(details: ErrorDetails, setting: Setting | None, place: Place) -> str:
    value = details["input"]
    if details["type"] == "missing":
        return "is missing" + (f": expected {setting.expected}" if setting else "")
    if details["type"] in ("dict_type", "model_type", "model_attributes_type"):
        return f"expected a section: [{dotted(place)}]"
    if setting is None:
        return details["msg"][:1].lower() + details["msg"][1:]
    expected = f"expected {setting.expected}"
    if setting.secret:
        return expected
    close = difflib.get_close_matches(str(value).lower(), setting.choices, n=1)
    return f"{_shown(value)}: {expected}" + (f"; did you mean {close[0]}?" if close else "")


def _of_several(place: Place, message: str, merged: Merged) -> str:
    named = [at for at in merged.below(place) if _is_named(at, place, message)]
    origins: Iterable[str] = filter(None, map(merged.origin, named or [place]))
    where = f" ({'; '.join(dict.fromkeys(origins))})" if named or place else ""
    return (f"{dotted(place)}: " if place else "") + message + where


def _is_named(at: Place, place: Place, message: str) -> bool:
    name = re.escape(dotted(at[len(place) :]))
    return re.search(rf"(?<![\w.]){name}(?![\w.]*\w)", message) is not None


def _line(place: Place, message: str, merged: Merged) -> str:
    origin = merged.origin(place)
    return f"{dotted(place)}: {message}" + (f" ({origin})" if origin else "")


def _nearest(place: Place) -> str:
    """What may have been meant; empty if nothing comes near.

    Names are compared without their sections: all that stands in one section would be alike.
    """
    known = [each.at(place) for each in all_settings() if each.place[-1] != ANY_NAME]
    sections = {at[:length] for at in known for length in range(1, len(at))}
    beside = [at for at in (*known, *sections) if at[:-1] == place[:-1]]
    below = [at for at in known if at[: len(place) - 1] == place[:-1] and len(at) > len(place)]
    same = [at for at in (*below, *known) if at[-1] == place[-1]]
    for candidates, cutoff in ((beside, 0.7), (same, 1.0), (known, 0.7)):
        names = {at[-1]: at for at in reversed(candidates)}
        close = difflib.get_close_matches(place[-1], names, n=1, cutoff=cutoff)
        if close:
            return f"; did you mean {dotted(names[close[0]])}?"
    return ""


def _shown(value: object) -> str:
    if isinstance(value, (dict, list)):
        return "a section" if isinstance(value, dict) else "a list"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    text = repr(shown_url(value) if isinstance(value, str) else value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."
