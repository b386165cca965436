"""What commands are told by files and the environment, so that nobody has to type it each time.

From the strongest to the weakest: an option, an environment variable, the same in ``.env``,
``towline.toml``, ``[tool.towline]`` in ``pyproject.toml``; each in the working directory. Variables
are TOWLINE_URL and, for each option of ``towline worker``, one such as TOWLINE_WORKER_CONCURRENCY.
What proves who calls has variables and no options.

    url = "grpcs://broker.internal:7480"
    ca = "ca.pem"                       # TOWLINE_CA; also cert, key, server_name and token_file

    [worker]
    module = "app.jobs"
    queue = ["emails", "reports"]       # in strict order; by weight: { emails = 3, reports = 1 }
    concurrency = 16
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from towline.cli.exits import UsageError
from towline.variables import misspelt

FILE = Path("towline.toml")
PROJECT = Path("pyproject.toml")
DOTENV = Path(".env")
VARIABLES = "TOWLINE_"
URL_VARIABLE = "TOWLINE_URL"
PROOFS = {
    "ca": "TOWLINE_CA",
    "cert": "TOWLINE_CERT",
    "key": "TOWLINE_KEY",
    "server_name": "TOWLINE_SERVER_NAME",
    "token_file": "TOWLINE_TOKEN_FILE",
}
"""What may stand in a file, with its variable. The token itself has no place in one that is shared
with others, as pyproject.toml is."""


TOKENS = ("TOWLINE_TOKEN", "TOWLINE_TOKEN_FILE")
LOOSENING = ("TOWLINE_INSECURE_TOKEN", "TOWLINE_USE_PROXY")
"""What lets a token go where it otherwise would not."""


@dataclass(frozen=True)
class Command:
    """A command of which options may stand in a file, in a table of its name."""

    name: str
    options: tuple[str, ...]
    """As Python names, such as ``max_jobs``."""


@dataclass(frozen=True)
class Defaults:
    """``values``: by command and option, as click takes them. ``origins``: the file of each.
    ``variables``: what files say for which there is a variable only."""

    values: Mapping[str, Mapping[str, Any]]
    origins: Mapping[tuple[str, str], str]
    variables: Mapping[str, str]


def set_variables(variables: Mapping[str, str]) -> None:
    """For this process and those that it starts; those that are set stay as they are."""
    for name, value in variables.items():
        if name == PROOFS["token_file"] and os.environ.get("TOWLINE_TOKEN"):
            continue
        os.environ.setdefault(name, value)


def load_environment(options_of_workers: Iterable[str], path: Path = DOTENV) -> None:
    """Take our variables from ``.env``; those that are set stay as they are.

    Raises UsageError for names of no setting that look like one's, and for what would send a token
    of the environment where it would not go by itself: a folder may be somebody else's.
    """
    _check_names(os.environ, "environment variable", options_of_workers)
    if not path.is_file():
        return
    named = dotenv_values(path)
    _check_names(named, f"{path}:", options_of_workers)
    if any(os.environ.get(token) for token in TOKENS):
        for name in LOOSENING:
            if named.get(name) and name not in os.environ:
                raise UsageError(
                    f"{path}: {name} holds for a token in the same file, and yours is in the "
                    f"environment: set {name} there, too"
                )
    for name, value in named.items():
        if name.startswith(VARIABLES) and value is not None:
            os.environ.setdefault(name, value)


def _check_names(names: Iterable[str], where: str, options_of_workers: Iterable[str]) -> None:
    found = misspelt(names, options_of_workers)
    if found:
        lines = (
            f"{where} {name}: no such setting; did you mean {meant}?"
            for name, meant in found.items()
        )
        raise UsageError("\n".join(lines))


def load_defaults(
    config: Path | None, configurable: Iterable[Command], every_command: Iterable[str]
) -> Defaults:
    """Read the files, or ``config`` instead of them.

    ``url`` is for ``every_command``, unless the environment names one. Raises UsageError, naming
    file and key, for what cannot be read and for what no command knows.
    """
    commands = {command.name: command for command in configurable}
    values: dict[str, dict[str, Any]] = {}
    origins: dict[tuple[str, str], str] = {}
    variables: dict[str, str] = {}
    for where, table in _tables(config):
        for key, value in table.items():
            if key == "url":
                entries = [] if URL_VARIABLE in os.environ else _urls(where, value, every_command)
            elif key in PROOFS:
                entries = []
                variables[PROOFS[key]] = _text(where, key, value)
            elif key in commands:
                entries = _options(where, commands[key], value)
            else:
                raise _unknown(where, key, ["url", *PROOFS, *commands])
            for command, option, given in entries:
                values.setdefault(command, {})[option] = given
                origins[command, option] = where
    return Defaults(values, origins, variables)


def _tables(config: Path | None) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """What stands in each file, the weakest first, and how its place is called."""
    if config is not None:
        yield (config.name, _read(config))
        return
    if PROJECT.is_file():
        ours: Any = _read(PROJECT)
        for key in ("tool", "towline"):
            ours = ours.get(key, {})
            if not isinstance(ours, Mapping):
                raise UsageError(f"{PROJECT}: {key}: expected a table, got {ours!r}")
        yield f"{PROJECT} [tool.towline]", ours
    if FILE.is_file():
        yield FILE.name, _read(FILE)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: {error}") from None


_Entry = tuple[str, str, Any]


def _urls(where: str, value: object, commands: Iterable[str]) -> list[_Entry]:
    if not isinstance(value, str):
        raise UsageError(f"{where}: url: expected a string such as host:port, got {value!r}")
    return [(command, "url", value) for command in commands]


def _text(where: str, key: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise UsageError(f"{where}: {key}: expected a string, got {value!r}")


def _options(where: str, command: Command, table: object) -> list[_Entry]:
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: {command.name}: expected a table of options, got {table!r}")
    entries: list[_Entry] = []
    for key, value in table.items():
        option = key.replace("-", "_")
        if option not in command.options:
            raise _unknown(where, f"{command.name}.{key}", _places(command))
        entries.append((command.name, option, _as_typed(where, f"{command.name}.{key}", value)))
    return entries


def _places(command: Command) -> list[str]:
    return [f"{command.name}.{option}" for option in command.options]


def _as_typed(where: str, key: str, value: object) -> object:
    """Return a value as it would be typed: a weight of a queue behind its name."""
    if isinstance(value, Mapping):
        return [f"{name}={weight}" for name, weight in value.items()]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, (str, int, float)):  # bool is an int
        return value
    raise UsageError(f"{where}: {key}: expected text, a number or a list of texts, got {value!r}")


def _unknown(where: str, key: str, known: Iterable[str]) -> UsageError:
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
    return UsageError(f"{where}: there is no setting {key!r}; {hint}")
