"""Where settings come from: options, environment, ``.env``, a file, defaults; the first one wins.

Every mistake is told with the place of the value, all of them at once.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SettingsError

from towline_broker.server.exits import ConfigError
from towline_broker.server.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from towline_broker.server.store_settings import Mistakes, Place, QueueOptions

DEFAULT_FILE = Path("towline-broker.toml")
DOTENV_FILE = Path(".env")
#: Names the file, unless an option does.
FILE_VARIABLE = ENV_PREFIX + "CONFIG"
#: Ours, but not the broker's: where the SDK looks for a broker.
CLIENT_VARIABLES = frozenset({ENV_PREFIX + "URL"})
#: Urls of stores stand here, and those may hold a password: these values are never told.
SECRET = frozenset({"store", "stores"})
#: Sections whose keys are names that an operator chooses, and what may be set under such a name.
NAMED: Mapping[str, tuple[Place, ...]] = {
    "stores": ((),),
    "queues": tuple((option,) for option in QueueOptions.model_fields),
}

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

#: Options that are called otherwise than their setting.
_OPTIONS = {"stores": "store"}


@dataclass
class Merged:
    """Values from several sources, and for each one where it came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Place, str] = field(default_factory=dict)

    def add(self, values: Mapping[str, Any], origin: "Origin", place: Place = ()) -> None:
        """Lays ``values`` over those that are there."""
        target = self.values
        for key in place:
            target = target.setdefault(key, {})
        for key, value in values.items():
            here = (*place, key)
            if isinstance(value, Mapping) and isinstance(target.get(key, {}), dict):
                target.setdefault(key, {})
                self.origins.setdefault(here, origin.of(here))
                self.add(value, origin, here)
            else:
                target[key] = value
                self.origins[here] = origin.of(here)

    def origin(self, place: Place) -> str:
        while place and place not in self.origins:
            place = place[:-1]
        return self.origins.get(place, "")


@dataclass(frozen=True)
class Origin:
    """One source. ``kind`` says how it names its values."""

    name: str
    kind: str = "file"

    def of(self, place: Place) -> str:
        match self.kind:
            case "option":
                return "option --" + _OPTIONS.get(place[0], place[0]).replace("_", "-")
            case "variable":
                return f"{self.name} {ENV_PREFIX}{ENV_DELIMITER.join(place).upper()}"
        return self.name


DOTENV = Origin("variable in .env:", "variable")
ENVIRONMENT = Origin("environment variable", "variable")


def load_settings(options: Mapping[str, Any], config: Path | None = None) -> Settings:
    """The settings of a broker that is started in this folder with these options.

    ``options`` holds only what was given. Raises ConfigError, which names every wrong value.
    """
    merged = Merged()
    mistakes: list[str] = []
    file = config or _file_from_environment()
    if file is not None:
        merged.add(read_file(file), Origin(f"file {file}"))
    variables = _read_environment(mistakes)
    merged.add(variables[0], DOTENV)
    merged.add(variables[1], ENVIRONMENT)
    merged.add(options, Origin("", "option"))
    try:
        settings = Settings(**merged.values)
    except ValidationError as error:
        mistakes += [line for details in error.errors() for line in _explain(details, merged)]
    else:
        if not mistakes:
            return settings
    raise ConfigError("wrong settings:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))


def read_file(path: Path) -> dict[str, Any]:
    """Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration file {path}: {reason}") from None
    try:
        match path.suffix.lower():
            case ".toml":
                values: Any = tomllib.loads(text)
            case ".yaml" | ".yml":
                values = yaml.safe_load(text) or {}
            case ".json":
                values = json.loads(text)
            case _:
                raise ConfigError(
                    f"configuration file {path}: expected a name that ends in .toml, .yaml, .yml "
                    "or .json"
                )
    except (tomllib.TOMLDecodeError, yaml.YAMLError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"configuration file {path} cannot be read: {reason}") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"configuration file {path}: expected settings by name at its top")
    return values


def _file_from_environment() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _read_environment(mistakes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``.env`` and what the environment says."""
    file = DotEnvSettingsSource(Settings, env_file=DOTENV_FILE, env_file_encoding="utf-8")
    dotenv = _values(file, DOTENV)
    environment = _values(EnvSettingsSource(Settings), ENVIRONMENT)
    known = set(Settings.model_fields)
    # The library hands over what else stands in the file, under its own name in small letters.
    others = [name.upper() for name in dotenv if name not in known]
    mistakes += _misspelt(others, DOTENV.name)
    mistakes += _misspelt(os.environ, ENVIRONMENT.name)
    return {name: value for name, value in dotenv.items() if name in known}, environment


def _values(source: EnvSettingsSource, origin: Origin) -> dict[str, Any]:
    try:
        return source()
    except SettingsError as error:
        # The library tells which setting in its text only, and why in the cause.
        named = re.search(r'field "(\w+)"', str(error))
        mistake = str(error)
        if named:
            place = (named[1],)
            mistake = f"{named[1]}: expected JSON: {error.__cause__} ({origin.of(place)})"
        raise ConfigError(f"wrong settings:\n  {mistake}") from None


def _misspelt(names: Any, origin: str) -> list[str]:
    """Variables that look like settings and are none.

    Not each name with our prefix is meant for us: Kubernetes, for one, makes such names for a
    service called towline.
    """
    known = {ENV_PREFIX + ENV_DELIMITER.join(place).upper() for place in places(Settings)}
    groups = {name.split(ENV_DELIMITER)[0] + ENV_DELIMITER for name in known if "__" in name}
    groups |= {ENV_PREFIX + section.upper() + ENV_DELIMITER for section in NAMED}
    known |= {FILE_VARIABLE, *(group.removesuffix(ENV_DELIMITER) for group in groups)}
    mistakes = []
    for name in sorted(names):
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in known or upper in CLIENT_VARIABLES:
            continue
        if any(upper.startswith(group) for group in groups):
            continue  # the settings themselves refuse what they do not know
        close = difflib.get_close_matches(upper, known, n=1, cutoff=0.85)
        if close:
            mistakes.append(f"{origin} {name}: no such setting; did you mean {close[0]}?")
    return mistakes


def places(model: type[BaseModel], place: Place = ()) -> list[Place]:
    """Where in ``model`` there is something to set."""
    found: list[Place] = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += places(kind, (*place, name))
        else:
            found.append((*place, name))
    return found


def _explain(details: ErrorDetails, merged: Merged) -> list[str]:
    place = tuple(str(part) for part in details["loc"])
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Mistakes):
        return [_line(at, what, merged) for at, what in cause.found]
    if details["type"] == "extra_forbidden":
        close = difflib.get_close_matches(dotted(place), map(dotted, _known_beside(place)), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return [_line(place, f"no such setting{hint}", merged)]
    message = details["msg"].removeprefix("Value error, ")
    if details["type"] in ("dict_type", "model_type"):
        message = f"expected a section: [{dotted(place)}]"
    elif details["type"] != "value_error":
        message = f"is wrong: {message[:1].lower()}{message[1:]}"
        if place[:1] and place[0] not in SECRET:
            message = f"{_shown(details['input'])} {message}"
    if not place:  # values that do not go together: the message names them
        named = [its for at, its in merged.origins.items() if dotted(at) in message]
        return [f"{message} ({', '.join(dict.fromkeys(named))})"]
    return [_line(tuple(part for part in place if part != "[key]"), message, merged)]


def _line(place: Place, message: str, merged: Merged) -> str:
    origin = merged.origin(place)
    return f"{dotted(place)}: {message}" + (f" ({origin})" if origin else "")


def _known_beside(place: Place) -> list[Place]:
    """What could be set near a place at which nothing can."""
    known = places(Settings)
    if len(place) > 1 and place[0] in NAMED:
        known += [(*place[:2], *rest) for rest in NAMED[place[0]]]
    return known


def dotted(place: Place) -> str:
    """As it would stand in a file of TOML: names that hold a dot in quotes."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else f'"{part}"' for part in place)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 64 else text[:64] + "..."
