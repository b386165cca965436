"""The command: frames, one after the other, until somebody has seen enough."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from towline.cli import output, values
from towline.cli.connection import connect
from towline.cli.exits import UsageError
from towline.cli.figure_views import worker_json
from towline.cli.job_views import job_json
from towline.cli.options import DEFAULT_TIMEOUT, JsonLines, Timeout, Url, examples
from towline.cli.stats import stats_json
from towline.cli.top.screen import SORT_KEYS, draw
from towline.cli.top.snapshot import Observer, Snapshot
from towline.errors import CallFailed, TowlineError

RATE_WINDOW = 5
"""Snapshots over which rates are taken, so that they can be read."""

_STEP = 0.1
"""Seconds between two looks for a key."""


def top(
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", "-q", metavar="QUEUE", help="Only this queue. Can be repeated."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option("--sort", metavar="KEY", help=f"Order of queues: {', '.join(SORT_KEYS)}."),
    ] = "ready",
    interval: Annotated[
        str, typer.Option("--interval", "-i", metavar="DURATION", help="Between two frames.")
    ] = "1s",
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            "-n",
            metavar="N",
            min=1,
            show_default=False,
            help="End after so many frames.  [default: no end; 1 where there is no terminal]",
        ),
    ] = None,
    json: JsonLines = False,
    url: Url = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """Watch queues, rates, workers and dead jobs, until q or Ctrl-C.

    Rates are of the last few frames. Dead jobs are those of the last ten minutes, and from then on.
    While the broker is away, the last frame stays, and says so.
    """
    if sort not in SORT_KEYS:
        raise UsageError(f"--sort: {sort!r} is none of {', '.join(SORT_KEYS)}")
    pause = values.seconds(interval, "--interval")
    if pause < _STEP:
        raise UsageError(f"--interval: must be at least {_STEP:g}s")
    live = sys.stdout.isatty() and not json
    if frames is None and not live:
        frames = 1
    with connect(url, timeout) as broker:
        observer = Observer(broker, queue or ())
        if live:
            _show_live(observer, sort, pause, frames)
        else:
            _print(observer, sort, pause, frames or 1, as_json=json)


def _print(observer: Observer, sort: str, pause: float, frames: int, *, as_json: bool) -> None:
    before: Snapshot | None = None
    for number in range(frames):
        if number:
            time.sleep(pause)
        snapshot = observer.take()
        if as_json:
            output.line(_document(snapshot))
        else:
            # A pipe has no width: nothing is cut.
            Console(width=240, highlight=False).print(draw(snapshot, before, sort, None))
        before = snapshot
        sys.stdout.flush()


def _document(snapshot: Snapshot) -> dict[str, object]:
    return {
        **stats_json(snapshot.stats),
        "workers": [worker_json(each) for each in snapshot.workers],
        "dead": [job_json(each) for each in snapshot.dead],
    }


def _show_live(observer: Observer, sort: str, pause: float, frames: int | None) -> None:
    console = Console(highlight=False)
    history: deque[Snapshot] = deque([observer.take()], maxlen=RATE_WINDOW + 1)
    left = frames
    trouble = ""
    with (
        contextlib.suppress(KeyboardInterrupt),  # the way to end it, not a failure
        _keys() as keys,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            before = history[0] if len(history) > 1 else None
            live.update(draw(history[-1], before, sort, console.size, trouble), refresh=True)
            if left is not None:
                left -= 1
                if left == 0:
                    return
            if _ended(pause, keys):
                return
            try:
                history.append(observer.take())
                trouble = ""
            except CallFailed as error:
                trouble = f"{_in_short(error)}; trying again"


def _in_short(error: TowlineError) -> str:
    return str(error).partition(";")[0]


def _ended(pause: float, keys: int | None) -> bool:
    """Wait for the next frame; True when q was pressed."""
    until = time.monotonic() + pause
    while (left := until - time.monotonic()) > 0:
        if keys is None:
            time.sleep(left)
        elif select.select([keys], [], [], min(left, _STEP))[0]:
            typed = os.read(keys, 64)
            if not typed or b"q" in typed.lower():
                return True
    return False


@contextlib.contextmanager
def _keys() -> Iterator[int | None]:
    """Yields where single keys can be read from; None where they cannot."""
    if not sys.stdin.isatty():
        yield None
        return
    try:
        import termios
        import tty
    except ImportError:  # another system's terminal: Ctrl-C ends it there
        yield None
        return
    keyboard = sys.stdin.fileno()
    settings = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, settings)


def register(app: typer.Typer) -> None:
    app.command(
        "top",
        epilog=examples(
            "towline top",
            "towline top --queue emails --interval 5s",
            "towline top --sort dead",
            "towline top --json --frames 2 | tail -1 | jq .total.totals",
        ),
    )(top)
