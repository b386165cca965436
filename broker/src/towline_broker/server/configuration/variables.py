"""Settings from the environment, and from the file ``.env`` in the working directory."""

import difflib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource, SettingsError

from towline.variables import NAMES as OF_CLIENTS
from towline.variables import OF_WORKERS
from towline_broker.server.configuration.catalogue import ANY_NAME, all_settings
from towline_broker.server.configuration.marks import Place
from towline_broker.server.configuration.settings import ENV_DELIMITER, ENV_PREFIX, Settings
from towline_broker.server.exits import ConfigError, WrongSettings

# It warns of each line that it cannot read; of those that matter more is told here.
logging.getLogger("dotenv").setLevel(logging.ERROR)

DOTENV_FILE = Path(".env")
#: Where variables stand.
ENVIRONMENT = "environment variable"
DOTENV = "variable in .env:"

#: Names the file of settings, unless an option does.
FILE_VARIABLE = ENV_PREFIX + "CONFIG"


@dataclass(frozen=True)
class Variables:
    """Those of one place. ``names`` are in capitals; ``file`` is that of settings, if it is named
    here."""

    kind: str
    values: Mapping[str, Any]
    names: frozenset[str]
    file: str | None = None

    @property
    def label(self) -> str:
        return self.kind

    def of(self, place: Place) -> str:
        """The variable that has set it: the longest one, for a section can be one of JSON."""
        lengths = range(len(place), 0, -1)
        candidates = [variable_of(place[:length]) for length in lengths]
        named = (name for name in candidates if name in self.names)
        return f"{self.kind} {next(named, candidates[0])}"


def variable_of(place: Place) -> str:
    return ENV_PREFIX + ENV_DELIMITER.join(place).upper()


def read_environment(mistakes: list[str]) -> Variables:
    """Adds to ``mistakes``. Raises ConfigError for JSON that is none."""
    kind = ENVIRONMENT
    names = frozenset(name.upper() for name in os.environ)
    values = _values(EnvSettingsSource(Settings), kind, names)
    mistakes += _misspelt(os.environ, kind)
    return Variables(kind, values, names, os.environ.get(FILE_VARIABLE) or None)


def read_dotenv(mistakes: list[str]) -> Variables:
    """As :func:`read_environment`."""
    kind = DOTENV
    if not DOTENV_FILE.is_file():
        return Variables(kind, {}, frozenset())
    names = frozenset(_names_in_dotenv(mistakes))
    source = DotEnvSettingsSource(Settings, env_file=DOTENV_FILE, env_file_encoding="utf-8")
    values = _values(source, kind, names)
    # The library hands over what else stands in the file, under its own name in small letters.
    known = set(Settings.model_fields)
    mistakes += _misspelt((name.upper() for name in values if name not in known), kind)
    settings = {key: each for key, each in values.items() if key in known}
    return Variables(kind, settings, names, values.get(FILE_VARIABLE.lower()) or None)


def _names_in_dotenv(mistakes: list[str]) -> list[str]:
    try:
        with DOTENV_FILE.open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except OSError as error:
        raise ConfigError(f"cannot read {DOTENV_FILE}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read {DOTENV_FILE}: it is not UTF-8 text") from None
    mistakes += [
        f"{DOTENV_FILE}: expected NAME=value (line {each.original.line})"
        for each in bindings
        # What is said to other programs is no business of ours.
        if each.error and ENV_PREFIX in each.original.string.upper()
    ]
    return [each.key.upper() for each in bindings if each.key]


def _values(source: EnvSettingsSource, kind: str, names: frozenset[str]) -> dict[str, Any]:
    try:
        return source()
    except SettingsError as error:
        # The library tells which setting in its text only, and why in the cause.
        named = re.search(r'field "(\w+)"', str(error))
        if named is None:
            raise WrongSettings([f"{kind}s: {error}"]) from None
        where = Variables(kind, {}, names).of((named[1],))
        mistake = f"{named[1]}: expected JSON: {error.__cause__} ({where})"
        raise WrongSettings([mistake]) from None


def _misspelt(names: Iterable[str], kind: str) -> list[str]:
    """Variables that look like settings and are none.

    Not each name with our prefix is meant for us: Kubernetes, for one, makes such names for a
    service called towline.
    """
    variables = {setting.variable for setting in all_settings()}
    sections = {name.split(ENV_DELIMITER)[0] for name in variables if ENV_DELIMITER in name}
    known = {name for name in variables if ANY_NAME not in name} | sections | {FILE_VARIABLE}
    mistakes = []
    for name in sorted(names):
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in known or _is_of_clients(upper):
            continue
        if upper.split(ENV_DELIMITER)[0] in sections:
            continue  # the settings themselves refuse what they do not know
        close = difflib.get_close_matches(upper, known, n=1, cutoff=0.85)
        if close:
            mistakes.append(f"{kind} {name}: no such setting; did you mean {close[0]}?")
    return mistakes


def _is_of_clients(name: str) -> bool:
    """Ours, but not the broker's: where programs and workers find a broker, and what they run."""
    return name in OF_CLIENTS or name.startswith(OF_WORKERS)
