"""What commands say beside their result: on standard error, so that results can be piped."""

import re
import time
from typing import NoReturn

import typer

from towline.errors import CallFailed
from towline_broker.domain.words import many
from towline_broker.server.exits import ExitCode
from towline_broker.server.streams import complain

_GRPC = re.compile(
    r"(connections to all backends failing|failed to connect to all addresses); last error: "
    r"([A-Z_]+: )?(ipv[46]:\S+: )?(Failed to connect to remote host: )?"
)

#: Between two lines of how far a command is.
LINE_SECONDS = 1.0


def say(text: str) -> None:
    complain(text)


def fail(message: str, code: ExitCode) -> NoReturn:
    """Ends the command."""
    say(f"towline-broker: {message}")
    raise typer.Exit(code)


def in_words(error: CallFailed) -> str:
    """Without what gRPC says around the reason for which there is no connection."""
    return _GRPC.sub("", str(error))


def confirm(question: str) -> None:
    """Ends the command unless somebody says yes."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        say("")
        fail("nobody is there to answer: add --yes, or --dry-run to look first", ExitCode.USAGE)
    if not agreed:
        fail("nothing was changed", ExitCode.NO)


class Progress:
    """Says about once a second how far it is."""

    def __init__(self, what: str, out_of: int | None = None) -> None:
        self._what = what
        self._of = "" if out_of is None else f" of {out_of:,}"
        self._last = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            told = f"{done:,}{self._of} jobs" if self._of else many(done, "job")
            say(f"{told} {self._what}")
