"""Settings as a broker finds them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import Sources


def load_settings(options: Mapping[str, Any], config: Path | None = None) -> Settings:
    """Those of a broker that is started in this folder with these options.

    ``options`` holds only what was given. Raises ConfigError, which names every wrong value.
    """
    return Sources(options, config).load().settings
