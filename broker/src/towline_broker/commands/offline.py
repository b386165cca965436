"""How commands over a store do their work, and how they end: they need no broker."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from towline_broker.archive.reading import BadArchive
from towline_broker.commands.chosen_store import ChosenStore
from towline_broker.commands.telling import fail
from towline_broker.domain.errors import (
    NotSupported,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    TowlineError,
)
from towline_broker.drivers.disk import Taken
from towline_broker.server.exits import Codes, ExitCode

T = TypeVar("T")

#: Exit codes that each of them can have.
CODES: Codes = {
    ExitCode.STORE_FAILED: "",
    ExitCode.CONFIG: "",
    ExitCode.INTERRUPTED: "",
}


def run(store: ChosenStore, work: Coroutine[Any, Any, T]) -> T:
    """Does it, and turns errors into what is said and the exit code."""
    with errors_told(store):
        return asyncio.run(work)


@contextmanager
def errors_told(store: ChosenStore) -> Iterator[None]:
    """Of a store that was not typed it is told where its url stands."""
    try:
        yield
    except TowlineError as error:
        fail(f"{error}{_place(error, store)}", _code_of(error))
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror}", ExitCode.NOT_WRITTEN)
    except KeyboardInterrupt:
        fail("interrupted", ExitCode.INTERRUPTED)


def _place(error: TowlineError, store: ChosenStore) -> str:
    about_store = isinstance(error, StoreRefused | StoreUnavailable)
    if not about_store or isinstance(error, Taken | BadArchive) or not store.origin:
        return ""
    return f" ({store.origin})"


def _code_of(error: TowlineError) -> ExitCode:
    match error:
        case Taken():
            return ExitCode.NOT_WRITTEN
        case BadArchive():
            return ExitCode.BAD_FILE
        case StoreRefused() | NotSupported():
            return ExitCode.STORE_REFUSED
        case StoreUnavailable():
            return ExitCode.UNAVAILABLE
        case StoreFailed():
            return ExitCode.STORE_FAILED
    return ExitCode.NO
