"""Which store a command is about: the one that a broker here would have, or one that is named.

A url may hold a password, and what is typed can be seen by everybody on the machine. So commands
take it from where ``serve`` does: a file of settings, the environment or .env.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from towline_broker.commands.loading import loaded
from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.sources import Loaded, Sources
from towline_broker.server.configuration.store_settings import is_store_name

#: In place of where a setting stands.
_UNSET = "no setting names another store: --config, TOWLINE_STORE or --store does"


@dataclass(frozen=True)
class ChosenStore:
    url: str
    #: In words, where it was taken from; empty: it was typed.
    origin: str = ""

    @property
    def shown(self) -> str:
        """Without its password."""
        return shown_url(self.url)


def chosen_store(store: str | None, config: Path | None) -> ChosenStore:
    """The one that ``--store`` says, or else the only one of the settings."""
    if store is not None and ":" in store:
        return _typed(store)
    stores = _of_settings(config)
    if store is None and len(stores) > 1:
        raise typer.BadParameter(
            f"which one? The settings name {', '.join(stores)}", param_hint="'--store'"
        )
    return _named(store or DEFAULT_STORE, stores)


def chosen_stores(store: str | None, config: Path | None) -> list[ChosenStore]:
    """The same, but all of the settings if none is named."""
    return list(_of_settings(config).values()) if store is None else [chosen_store(store, config)]


def _typed(url: str) -> ChosenStore:
    name, equals, rest = url.partition("=")
    if equals and is_store_name(name):
        raise typer.BadParameter(
            f"a name or a url, not both: {name} or {shown_url(rest)}", param_hint="'--store'"
        )
    return ChosenStore(url)


def _named(name: str, stores: dict[str, ChosenStore]) -> ChosenStore:
    try:
        return stores[name]
    except KeyError:
        raise typer.BadParameter(
            f"no store is called {name!r}: the settings name {', '.join(stores)}",
            param_hint="'--store'",
        ) from None


def _of_settings(config: Path | None) -> dict[str, ChosenStore]:
    return dict(_each(loaded(Sources({}, config))))


def _each(found: Loaded) -> Iterator[tuple[str, ChosenStore]]:
    for name, url in found.settings.all_stores.items():
        place = ("store",) if name == DEFAULT_STORE else ("stores", name)
        yield name, ChosenStore(url, found.merged.origin(place) or _UNSET)
