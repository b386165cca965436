"""``towline-broker move``: moves a queue to another store of a broker that runs."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from towline.channel import Connection
from towline.errors import (
    BrokerUnavailable,
    CallFailed,
    ConfigurationError,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    NotSupported,
)
from towline.v1 import admin_service_pb2 as pb
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline_broker.commands import options
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.telling import LINE_SECONDS, in_words, say
from towline_broker.domain.words import many
from towline_broker.server.exits import Codes, ExitCode

HELP = """Move a queue, with all its jobs and dead jobs, to another store of a running broker.

The queue is sealed: from here on workers get nothing from it, while jobs can still be pushed to it.
Its jobs are brought over in batches, what is leased after it was settled; then the queue opens in
the new store. Nothing is lost or doubled, also if this command, the broker or the machine ends in
the middle: the same command goes on from there.
"""

CODES: Codes = {
    ExitCode.OK: "the queue is in that store, with all its jobs",
    ExitCode.NO: "not done: no such queue, not allowed, or a store is full or cannot do this",
    ExitCode.USAGE: "wrong use, or no such store",
    ExitCode.UNAVAILABLE: "the broker cannot be reached",
    ExitCode.INTERRUPTED: "",
}

EXAMPLES = examples(
    "towline-broker move emails --to pg",
    "towline-broker move emails --undo",
)

#: Jobs in one step: what a broker takes if its settings do not say otherwise (limits.page).
MOST_JOBS = 1_000
#: Seconds for one step. A batch of large jobs over a slow store takes a while.
STEP_SECONDS = 120.0
#: Between two looks at a queue of which nothing can be moved just now.
PAUSE_SECONDS = 0.25


def register(app: typer.Typer) -> None:
    summary = "Move a queue to another store of a running broker."
    app.command("move", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(move)


def move(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")],
    to: Annotated[
        str | None, typer.Option(metavar="STORE", help="Name of the store to move it to.")
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Bring back what has gone, and open the queue again.")
    ] = False,
    batch: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=MOST_JOBS,
            help="Jobs that one step moves at most.",
        ),
    ] = 500,
    url: options.Url = None,
) -> None:
    if undo == (to is not None):
        raise typer.BadParameter("give one of --to STORE and --undo")
    try:
        connection = Connection.to(url, timeout=STEP_SECONDS)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="'--url'") from None
    with connection.open() as channel:
        mover = Mover(AdminServiceStub(channel), connection, queue, batch)
        try:
            mover.run(to)
        except CallFailed as error:
            say(f"towline-broker: {in_words(error)}")
            if isinstance(error, InvalidArgument | NotFound | NotSupported):
                mover.tell_what_is_under_way(to, url)
            else:
                mover.tell_how_to_go_on(to, url)
            raise typer.Exit(_code_of(error)) from None
        except KeyboardInterrupt:
            say("towline-broker: interrupted")
            mover.tell_how_to_go_on(to, url)
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _code_of(error: CallFailed) -> ExitCode:
    match error:
        case InvalidArgument():
            return ExitCode.USAGE
        case BrokerUnavailable() | DeadlineExceeded():
            return ExitCode.UNAVAILABLE
    return ExitCode.NO


class Mover:
    """One queue on its way. Its methods raise CallFailed."""

    def __init__(
        self, admin: AdminServiceStub, connection: Connection, queue: str, batch: int
    ) -> None:
        self._admin = admin
        self._connection = connection
        self._queue = queue
        self._batch = batch
        self._begun = False
        #: Where the queue was on its way to when this began.
        self._bound_for = ""
        self._moved = 0

    def run(self, to: str | None) -> None:
        """``to`` None: back to the store that it came from."""
        began = time.monotonic()
        found = self._look()
        if found is not None and to is None and not found.moving_to:
            say(f"queue {self._queue} is not being moved: it is in store {found.store}")
            return
        # A queue that is not there is best told of by the broker.
        home, bound_for = (found.store, found.moving_to) if found else ("", "")
        self._begun = bool(bound_for)
        self._bound_for = bound_for
        target = to or home
        source = bound_for if bound_for and target == home else home
        with _progress(f"{self._queue}: {source} -> {target}") as show:
            self._go_on(target, show)
        took = time.monotonic() - began
        if self._moved or source != target:
            say(
                f"moved {many(self._moved, 'job')} of queue {self._queue} from {source} to "
                f"{target} in {took:.1f} s"
            )
        else:
            say(f"queue {self._queue} is in store {target} already")

    def tell_how_to_go_on(self, to: str | None, url: str | None) -> None:
        if not self._begun:
            return
        where = f" --url {shlex.quote(url)}" if url else ""
        command = f"towline-broker move {self._queue}"
        onward, back = (f"--to {to}", "--undo") if to else ("--undo", "")
        say(
            f"{many(self._moved, 'job')} moved. Queue {self._queue} is sealed: it takes jobs, and "
            "gives out none until its move is done. Nothing is lost."
        )
        say(f"  go on:    {command} {onward}{where}")
        if back:
            say(f"  go back:  {command} {back}{where}")

    def tell_what_is_under_way(self, refused: str | None, url: str | None) -> None:
        """After a refusal: the same command would be refused again."""
        if self._bound_for and refused not in (None, self._bound_for):
            self.tell_how_to_go_on(self._bound_for, url)

    def _go_on(self, target: str, show: Callable[[int, int, str], None]) -> None:
        while True:
            step = self._step(target)
            self._moved += step.moved
            waiting = step.leased if not (step.moved or step.remaining) else 0
            show(
                self._moved,
                self._moved + step.remaining + step.leased,
                f"waiting for {many(waiting, 'job')} to be settled, or their leases to run out"
                if waiting
                else "",
            )
            if step.complete:
                return
            if not step.moved:
                time.sleep(PAUSE_SECONDS)

    def _look(self) -> pb.QueueInfo | None:
        with self._connection.errors():
            answer = self._admin.ListQueues(pb.ListQueuesRequest(), timeout=STEP_SECONDS)
        return next((info for info in answer.queues if info.name == self._queue), None)

    def _step(self, target: str) -> pb.MoveQueueResponse:
        request = pb.MoveQueueRequest(queue=self._queue, store=target, limit=self._batch)
        with self._connection.errors():
            answer = self._admin.MoveQueue(request, timeout=STEP_SECONDS)
        self._begun = True
        return answer


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal, a line now and then elsewhere.

    Yields a function of how many are done, out of how many, and what is waited for.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[waiting]}", markup=False),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None, waiting="")
        yield lambda done, out_of, waiting: bar.update(
            task, completed=done, total=out_of, waiting=waiting
        )


def _lines() -> Callable[[int, int, str], None]:
    last, said = time.monotonic(), ""

    def show(done: int, out_of: int, waiting: str) -> None:
        nonlocal last, said
        if waiting and waiting != said:
            say(waiting)
        elif not waiting and time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            say(f"{many(done, 'job')} moved, {out_of - done:,} left")
        said = waiting

    return show
