"""Options that several commands have, and how their examples are written."""

from typing import Annotated

import typer

DEFAULT_TIMEOUT = "10s"

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="HOST:PORT",
        show_default=False,
        help="Where the broker is; over TLS grpcs://HOST:PORT.  [default: $TOWLINE_URL, or "
        "127.0.0.1:7480]",
    ),
]
Timeout = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Longest time for one call.")
]
JsonDocument = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print JSON lines: one object on each line.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say how many it would be; change nothing.")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the job.")]
Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]


def examples(*lines: str) -> str:
    r"""Return the examples as the end of a help text (``\b`` keeps their lines as they are)."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))
