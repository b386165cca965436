"""Standard input, output and error of a process whose starter has closed them, or reads no more."""

import os
import sys
from pathlib import Path


def hold_closed() -> None:
    """Before anything is opened: what is opened next would take the number of a stream that is
    closed, and what libraries print would go into a store, or to a client."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which is this one.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(nowhere, True)


def complain(text: str) -> None:
    """On standard error, if anybody hears: what is done next does not depend on it."""
    try:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 -- said to whoever started this
    except OSError:
        give_up(2)


def give_up(stream: int) -> None:
    """Standard output or error that nobody reads: what Python still holds for it would fail once
    more at the end, and change the exit code."""
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream)
