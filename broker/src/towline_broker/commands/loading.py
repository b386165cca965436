"""The settings of ``serve``, for commands that have to do with what a broker has."""

from pathlib import Path

from towline_broker.commands.telling import fail
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import Loaded, Sources
from towline_broker.server.exits import ConfigError, ExitCode


def loaded(sources: Sources) -> Loaded:
    """What they say now; ends the command if a setting is wrong."""
    try:
        return sources.load()
    except ConfigError as error:
        fail(str(error), ExitCode.CONFIG)


def settings_of(config: Path | None) -> Settings:
    """The same of a command that has --config, and no options for settings."""
    return loaded(Sources({}, config)).settings
