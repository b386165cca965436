"""The app ``towline.contrib.django``: clients from the settings, jobs from every app."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig  # type: ignore[import-untyped]
from django.core import checks  # type: ignore[import-untyped]
from django.utils.module_loading import autodiscover_modules  # type: ignore[import-untyped]

from towline.contrib.django.conf import client_options
from towline.errors import TowlineError
from towline.named import clients


class TowlineConfig(AppConfig):  # type: ignore[misc]  # Django has no types
    name = "towline.contrib.django"
    label = "towline"
    verbose_name = "Towline"

    def ready(self) -> None:
        for name, options in client_options().items():
            clients.add(name, **options)
        checks.register(check_clients)
        autodiscover_modules("jobs")


def check_clients(**_: Any) -> list[checks.CheckMessage]:
    """A system check: make each client of the settings, which connects to nothing."""
    found = []
    for name in client_options():
        try:
            clients[name]
        except (TowlineError, TypeError) as error:
            found.append(checks.Error(f"TOWLINE[{name!r}]: {error}", id="towline.E001"))
    return found
