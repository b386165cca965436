"""Settings of several stores: their names, and which queue is kept in which of them."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator

from towline_broker.core.routing import DEFAULT_STORE, Routes, ambiguous, is_pattern
from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.marks import Expected, Place, Secret
from towline_broker.server.configuration.queue_settings import QueueOptions

#: No colon: in ``--store NAME=URL`` a url is told from a name by it.
_STORE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
#: A store of its own each time it is named.
_NOT_SHARED = re.compile(r"memory:(\?|$)", re.IGNORECASE)


class Mistakes(ValueError):
    """Values that do not go together, each with its place and what is wrong with it."""

    def __init__(self, found: Iterable[tuple[Place, str]]) -> None:
        self.found = list(found)
        super().__init__("; ".join(f"{'.'.join(place)}: {what}" for place, what in self.found))


def _url(text: str) -> str:
    if not text.strip():
        raise ValueError("expected the url of a store, such as 'sqlite:///towline.db'")
    return text.strip()


def _store_name(text: str) -> str:
    if text == DEFAULT_STORE:
        raise ValueError(f"{DEFAULT_STORE!r} is the name of the store that 'store' sets")
    if not _STORE_NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is no name of a store: expected 1 to 128 of A-Z a-z 0-9 . _ -, "
            "beginning with a letter or digit"
        )
    return text


StoreUrl = Annotated[
    str,
    AfterValidator(_url),
    Expected("the url of a store, such as 'sqlite:///towline.db'"),
    Secret(shown_url),
]
StoreName = Annotated[str, AfterValidator(_store_name)]


def is_store_name(text: str) -> bool:
    return _STORE_NAME.fullmatch(text) is not None


def all_stores(default: str, others: Mapping[str, str]) -> dict[str, str]:
    """Name to url, the default one first."""
    return {DEFAULT_STORE: default, **others}


def to_routes(queues: Mapping[str, QueueOptions]) -> Routes:
    """Of settings in which :func:`mistakes` finds none."""
    routes = [(name, each.store) for name, each in queues.items() if each.store is not None]
    return Routes(
        exact={name: store for name, store in routes if not is_pattern(name)},
        patterns=tuple((name, store) for name, store in routes if is_pattern(name)),
    )


def mistakes(
    stores: Mapping[str, str], queues: Mapping[str, QueueOptions]
) -> Iterator[tuple[Place, str]]:
    """What does not go together; ``stores`` with the default one. No url is told: it may hold a
    password."""
    named: dict[str, str] = {}
    for name, url in stores.items():
        first = name if _NOT_SHARED.match(url) else named.setdefault(url, name)
        if first != name:
            yield _of_store(name), f"is the url of store {first!r} too: one store has one name"
    for name, options in queues.items():
        if options.store is not None and options.store not in stores:
            close = difflib.get_close_matches(options.store, stores, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there is {', '.join(stores)}"
            # Whoever writes the url in place of the name writes its password, too.
            named_so = shown_url(options.store)
            yield ("queues", name, "store"), f"no store is called {named_so!r}; {hint}"
    for one, other in ambiguous(name for name in queues if is_pattern(name)):
        yield (
            ("queues", other),
            f"a queue can fit this and {one!r}, and neither comes first: give one of them more "
            "letters before its first *",
        )


def _of_store(name: str) -> Place:
    return ("store",) if name == DEFAULT_STORE else ("stores", name)
