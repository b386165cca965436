"""Where settings come from: options, environment, ``.env``, a file, defaults; the first one wins.

Every mistake is told with the place of the value, all of them at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from towline_broker.server.configuration.explaining import explain
from towline_broker.server.configuration.merging import AsOption, InFile, Merged
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.settings_file import SettingsFile, read_file
from towline_broker.server.configuration.variables import (
    FILE_VARIABLE,
    Variables,
    read_dotenv,
    read_environment,
)
from towline_broker.server.exits import ConfigError, WrongSettings

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
        dotenv, environment = read_dotenv(mistakes), read_environment(mistakes)
        file = self._file(environment, dotenv)
        if file is not None:
            merged.add(file.values, InFile(file))
        for variables in (dotenv, environment):
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

    def _file(self, *variables: Variables) -> SettingsFile | None:
        if self.config is not None:
            return read_file(self.config)
        for each in variables:
            if each.file:
                try:
                    return read_file(Path(each.file))
                except ConfigError as error:
                    raise ConfigError(f"{error} ({each.kind} {FILE_VARIABLE})") from None
        return read_file(DEFAULT_FILE) if DEFAULT_FILE.exists() else None
