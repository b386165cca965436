"""Where settings come from: options, environment, ``.env``, a file, defaults; the first one wins.

Every mistake is told with the place of the value, all of them at once.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from towline_broker.server.exits import WrongSettings
from towline_broker.server.explaining import explain
from towline_broker.server.merging import AsOption, InFile, Merged
from towline_broker.server.settings import Settings
from towline_broker.server.settings_file import SettingsFile, read_file
from towline_broker.server.variables import FILE_VARIABLE, read_dotenv, read_environment

DEFAULT_FILE = Path("towline-broker.toml")


@dataclass(frozen=True)
class Loaded:
    """Settings, and where each came from."""

    settings: Settings
    merged: Merged
    file: SettingsFile | None


@dataclass(frozen=True)
class Sources:
    """Those of a broker that is started in this folder with these options, which holds only what
    was given."""

    options: Mapping[str, Any]
    config: Path | None = None

    def load(self) -> Loaded:
        """What they say now. Raises ConfigError, which names every wrong value."""
        merged = Merged()
        mistakes: list[str] = []
        path = self.config or _file_from_environment()
        file = read_file(path) if path is not None else None
        if file is not None:
            merged.add(file.values, InFile(file))
        for variables in (read_dotenv(mistakes), read_environment(mistakes)):
            merged.add(variables.values, variables)
        merged.add(self.options, AsOption())
        try:
            settings = Settings(**merged.values)
        except ValidationError as error:
            mistakes += explain(error, merged)
        else:
            if not mistakes:
                return Loaded(settings, merged, file)
        raise WrongSettings(mistakes)


def load_settings(options: Mapping[str, Any], config: Path | None = None) -> Settings:
    """The settings of a broker that is started in this folder with these options.

    ``options`` holds only what was given. Raises ConfigError, which names every wrong value.
    """
    return Sources(options, config).load().settings


def _file_from_environment() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None
