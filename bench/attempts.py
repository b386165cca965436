"""What cannot be measured is told of by its name, and everything else goes on."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import grpc
import pytest

from bench.options import Options
from bench.results import Part
from bench.servers.debian import Missing

#: What is raised for a server that this machine has not. That of pytest is no Exception.
ABSENT = (Missing, pytest.skip.Exception)
BROKEN = (Exception, pytest.fail.Exception)


@contextmanager
def attempt(part: Part, name: str) -> Iterator[None]:
    """Whatever ends what is done here is added to what is missing in the part, or has failed."""
    try:
        yield
    except ABSENT as error:
        part.missing.append(f"{name}: {error}")
    except BROKEN as error:
        part.failed.append(f"{name}: {told(error)}")


def each_store(
    part: Part,
    options: Options,
    measure: Callable[[str, Part, Options], None],
    among: Collection[str] | None = None,
) -> None:
    """Of the stores that were asked for, those that the part is about."""
    for store in options.stores:
        if among is None or store in among:
            with attempt(part, store):
                measure(store, part, options)


def told(error: BaseException) -> str:
    """In a line."""
    if isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}".splitlines()[0]
