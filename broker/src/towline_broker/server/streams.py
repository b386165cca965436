"""Standard input, output and error of a process whose starter has closed them, or reads no more."""

import os
import sys
from contextlib import suppress


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
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)  # noqa: T201 -- said to whoever started this
