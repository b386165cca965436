"""What commands over a store have in common: they need no broker, tell how far they are, and end
with the same exit codes."""

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, TypeVar

import typer

from towline_broker.archive.backups import Exists
from towline_broker.archive.reading import BadArchive
from towline_broker.domain.errors import (
    NotSupported,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    TowlineError,
)

T = TypeVar("T")

#: Between two lines of how far it is.
LINE_SECONDS = 1.0


class Exit(IntEnum):
    """After sysexits.h, as those of ``serve``."""

    NOT_DONE = 1
    BAD_FILE = 65
    REFUSED = 66
    UNAVAILABLE = 69
    NOT_WRITTEN = 73
    FAILED = 74
    INTERRUPTED = 130


def run(work: Coroutine[Any, Any, T]) -> T:
    """Does it, and turns errors into what is said and the exit code."""
    with errors_told():
        return asyncio.run(work)


@contextmanager
def errors_told() -> Iterator[None]:
    try:
        yield
    except TowlineError as error:
        say(f"towline-broker: {error}")
        raise typer.Exit(_code_of(error)) from None
    except OSError as error:
        say(f"towline-broker: {error.filename or 'a file'}: {error.strerror}")
        raise typer.Exit(Exit.NOT_WRITTEN) from None
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(Exit.INTERRUPTED) from None


def _code_of(error: TowlineError) -> Exit:
    match error:
        case Exists():
            return Exit.NOT_WRITTEN
        case BadArchive():
            return Exit.BAD_FILE
        case StoreRefused() | NotSupported():
            return Exit.REFUSED
        case StoreUnavailable():
            return Exit.UNAVAILABLE
        case StoreFailed():
            return Exit.FAILED
    return Exit.NOT_DONE


class Progress:
    """Says on standard error, about once a second, how far it is."""

    def __init__(self, what: str, out_of: int | None = None) -> None:
        self._what = what
        self._of = "" if out_of is None else f" of {out_of:,}"
        self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            say(f"{done:,}{self._of} jobs {self._what}")


def jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


def queues(count: int) -> str:
    return "1 queue" if count == 1 else f"{count:,} queues"


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
