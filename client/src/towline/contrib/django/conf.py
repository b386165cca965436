"""What the settings of a project say: TOWLINE and TOWLINE_WORKER."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings  # type: ignore[import-untyped]
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]
from django.utils.module_loading import import_string  # type: ignore[import-untyped]


def client_options() -> dict[str, dict[str, Any]]:
    """Return the arguments of each Client by its name, as TOWLINE has them.

    Raises ImproperlyConfigured when it is not made so.
    """
    clients = _mapping("TOWLINE", getattr(settings, "TOWLINE", {}))
    return {
        name: dict(_mapping(f"TOWLINE[{name!r}]", options)) for name, options in clients.items()
    }


def worker_options() -> dict[str, Any]:
    """Return the arguments of Worker that TOWLINE_WORKER has.

    Middleware that is named by a dotted path is imported, and a class made an instance. Raises
    ImproperlyConfigured when the setting is no dict, and ImportError for a path that leads nowhere.
    """
    options = dict(_mapping("TOWLINE_WORKER", getattr(settings, "TOWLINE_WORKER", {})))
    options["middleware"] = [_middleware(each) for each in options.get("middleware", ())]
    return options


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ImproperlyConfigured(
        f"{name}: expected a dict, got {type(value).__name__}; "
        'TOWLINE = {"default": {"address": "127.0.0.1:7480"}}, TOWLINE_WORKER = {"concurrency": 4}'
    )


def _middleware(given: object) -> object:
    found = import_string(given) if isinstance(given, str) else given
    return found() if isinstance(found, type) else found
