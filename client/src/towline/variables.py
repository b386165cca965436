"""The environment variables of this package."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Sequence

from towline.errors import ConfigurationError

logger = logging.getLogger("towline")

PREFIX = "TOWLINE_"
OF_WORKERS = "TOWLINE_WORKER_"
"""What begins so is an option of ``towline worker``."""

NAMES = (
    *("TOWLINE_URL", "TOWLINE_CA", "TOWLINE_CERT", "TOWLINE_KEY", "TOWLINE_SERVER_NAME"),
    *("TOWLINE_TOKEN", "TOWLINE_TOKEN_FILE", "TOWLINE_INSECURE_TOKEN", "TOWLINE_USE_PROXY"),
    *("TOWLINE_WORKER", "TOWLINE_DEBUG"),
)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


def flag(name: str) -> bool:
    """Return whether a variable is set to 1 or the like. Raises ConfigurationError for what is
    neither yes nor no."""
    asked = os.environ.get(name, "").strip().lower()
    if asked not in _TRUE | _FALSE:
        raise ConfigurationError(f"{name}: expected 1 or 0, got {asked!r}")
    return asked in _TRUE


def misspelt(names: Iterable[str], options_of_workers: Iterable[str] = ()) -> dict[str, str]:
    """Return names that look like one of ours and are none, each with the one that it looks like.

    Not each name with our prefix is meant for us: a broker has its own, and Kubernetes makes such
    names for services that are called towline or towline-worker.
    """
    worker = [OF_WORKERS + option.upper() for option in options_of_workers]
    found = {}
    for name in sorted(names):
        if not name.startswith(PREFIX) or name in NAMES or name in worker or "__" in name:
            continue
        meant = _meant(name, worker)
        if meant is not None:
            found[name] = meant
    return found


def _meant(name: str, worker: Sequence[str]) -> str | None:
    section, _, rest = name.removeprefix(PREFIX).partition("_")
    if rest and _closest(section, ["WORKER"], 0.7):
        close = _closest(rest, [each.removeprefix(OF_WORKERS) for each in worker], 0.75)
        return close and OF_WORKERS + close
    return _closest(name, NAMES, 0.85)


def _closest(name: str, names: Sequence[str], cutoff: float) -> str | None:
    return next(iter(difflib.get_close_matches(name, names, 1, cutoff)), None)


_warned: set[str] = set()


def warn_of_misspelt() -> None:
    """In the log, once for each. Commands refuse instead; a program may have a use for the name."""
    for name, meant in misspelt(os.environ).items():
        if name not in _warned:
            _warned.add(name)
            logger.warning(
                "environment variable %s: no such setting; did you mean %s?", name, meant
            )
