"""Which event loop a broker runs on: uvloop where it is installed, unless it is told otherwise."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Literal, TypeAlias

from towline_broker.server.exits import ConfigError

Choice: TypeAlias = Literal["auto", "uvloop", "asyncio"]


def loop_factory(choice: Choice) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes one; None: asyncio's own. Raises ConfigError for uvloop where there is none."""
    if choice == "asyncio":
        return None
    try:
        made: Callable[[], asyncio.AbstractEventLoop] = import_module("uvloop").new_event_loop
    except ImportError as error:
        if choice == "auto":  # as on platforms for which there is none
            return None
        raise ConfigError(
            f"event_loop: uvloop is not installed ({error}): pip install uvloop, or set it to "
            "asyncio or auto"
        ) from None
    return made
