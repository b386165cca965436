"""A census of the Python standard library: one job for each source file, run by two workers.

Starts a broker on a new SQLite store and two `towline worker` processes, dispatches the jobs, kills
one worker half-way with SIGKILL, and checks at the end that every file is accounted for exactly
once. Exits with 1 if one is not.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from accounting import problems
from census import CountFile, list_sources
from processes import broker, running, worker
from report import print_report
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from towline import Client, JobStatus
from towline.status import read_info
from towline.v1.admin_service_pb2 import Figures, StatsRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.dead_letter_service_pb2 import ListDeadRequest
from towline.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from towline.v1.job_pb2 import JOB_VIEW_FULL
from towline.v1.queue_service_pb2 import ListJobsRequest
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

LIBRARY = Path(os.__file__).parent
LONGEST = 180.0  # seconds until the demo gives up
BROKEN = {"print.py": "print 'two'\n", "brackets.py": "f(]\n", "indent.py": "def f():\npass\n"}


def main() -> int:
    arguments = parse_arguments()
    console = Console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="census-")))
        address = stack.enter_context(broker(folder))
        client = stack.enter_context(Client(address))
        workers = [
            stack.enter_context(running(worker(address), folder / f"worker-{number}.log"))
            for number in (1, 2)
        ]
        console.print(f"A broker at {address} on a new SQLite store, and two workers")

        begin = time.monotonic()
        paths = client.dispatch(list_sources, folder=str(LIBRARY)).result(timeout=60)
        paths = choose(paths, arguments.limit, folder, console)
        handles = client.dispatch_batch([CountFile(path=path) for path in paths])
        files = {handle.id: path for handle, path in zip(handles, paths, strict=True)}
        console.print(f"Dispatched {len(files):,} jobs: one for each source file in {LIBRARY}")

        with progress_bar(console, quiet=arguments.quiet) as bar:
            task = bar.add_task("census", total=len(files))
            killed = False
            for figures in watch(client, len(files)):
                done = figures.totals.completed + figures.depth.dead
                bar.update(task, completed=done)
                if not killed and done >= len(files) / 2:
                    killed = True
                    workers[0].kill()
                    stack.enter_context(running(worker(address), folder / "worker-3.log"))
                    console.print(f"Killed worker 1 after {done:,} jobs; started another")
        seconds = time.monotonic() - begin

        jobs = list(all_jobs(client))
        print_report(console, LIBRARY, files, jobs, figures.totals.lease_expired, seconds)
        ended = [(job.id, str(job.state)) for job in jobs]
        wrong = problems(files, ended, dead_letters(client), figures.totals.completed)
    for problem in wrong:
        console.print(f"NOT ACCOUNTED FOR: {problem}", style="bold red", markup=False)
    if wrong:
        return 1
    console.print(f"Each of {len(files):,} files is accounted for exactly once", style="bold green")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, metavar="N", help="only about N files")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args()


def choose(paths: list[str], limit: int | None, folder: Path, console: Console) -> list[str]:
    """Return the files to count, some that do not parse among them."""
    if limit:
        paths = paths[:: max(1, len(paths) // limit)]
    # The tests of the standard library hold files that must not parse; not every Python has them.
    if any(Path(path).name.startswith(("badsyntax_", "bad_coding")) for path in paths):
        return paths
    console.print(f"No file here is known not to parse, so {len(BROKEN)} broken ones are added")
    for name, source in BROKEN.items():
        (folder / name).write_text(source)
    return paths + [str(folder / name) for name in BROKEN]


def progress_bar(console: Console, *, quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)


def watch(client: Client, total: int) -> Iterator[Figures]:
    """Yield the figures of the files' jobs until all have ended, or for as long as it may take."""
    admin = AdminServiceStub(client.channel)
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        types = {each.type: each.figures for each in admin.Stats(StatsRequest()).types}
        figures = types[CountFile.job_type]
        yield figures
        if figures.totals.completed + figures.depth.dead >= total:
            return
        time.sleep(0.1)


def all_jobs(client: Client) -> Iterator[JobStatus]:
    """Yield every job of the census that the broker knows, page by page."""
    queues = QueueServiceStub(client.channel)
    request = ListJobsRequest(type=CountFile.job_type, page_size=1000, view=JOB_VIEW_FULL)
    while True:
        page = queues.ListJobs(request)
        yield from map(read_info, page.jobs)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def dead_letters(client: Client) -> Iterator[str]:
    """Yield the id of every dead job, page by page."""
    dead = DeadLetterServiceStub(client.channel)
    request = ListDeadRequest(page_size=1000)
    while True:
        page = dead.ListDead(request)
        yield from (info.job.id for info in page.jobs)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
