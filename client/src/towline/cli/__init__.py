"""The `towline` command. It needs typer and rich, which come with the extra `towline[cli]`."""

import os
import sys
from typing import TextIO

from towline.cli.exits import Exit

_MISSING_EXTRA = "towline: this command needs the extra: pip install 'towline[cli]'"


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    try:
        _main()
    except KeyboardInterrupt:  # while modules are imported; later the command sees to it itself
        sys.exit(Exit.INTERRUPTED)


def _main() -> None:
    try:
        import rich
        import typer
    except ModuleNotFoundError as missing:
        print(_MISSING_EXTRA + f" ({missing.name} is missing)", file=sys.stderr)  # noqa: T201 - no rich
        sys.exit(2)
    del rich, typer
    # gRPC is loaded after this. It would write a line of its own for each handshake that fails,
    # beside the one in which the command says why.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from towline.cli.app import run

    try:
        sys.exit(run(sys.argv[1:]))
    finally:
        _flush(sys.__stdout__)


def _flush(stream: TextIO | None) -> None:
    """Python flushes once more at its end, and would complain to a reader that has had enough."""
    if stream is not None:
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
