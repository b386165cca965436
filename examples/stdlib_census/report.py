"""What the demo says at the end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from towline import DeadReason, JobState, JobStatus

EXPECTED = DeadReason.ATTEMPTS_EXHAUSTED


def print_report(
    console: Console,
    folder: Path,
    files: Mapping[str, str],
    jobs: Sequence[JobStatus],
    lease_expired: int,
    seconds: float,
) -> None:
    """Print what ran, what was retried, and what is dead and why."""
    succeeded = [job for job in jobs if job.state is JobState.SUCCEEDED]
    dead = [job for job in jobs if job.state is JobState.DEAD]
    retried = sum(job.attempt > 1 for job in succeeded)
    counts: Counter[str] = Counter()
    for job in succeeded:
        counts.update(job.result)

    ran = Table("What ran", "", box=SIMPLE_HEAD)
    ran.columns[1].justify = "right"
    for name, value in (
        ("files, one job each", len(files)),
        ("succeeded at the first attempt", len(succeeded) - retried),
        ("succeeded after a retry", retried),
        ("dead", len(dead)),
        ("leases that ran out with the killed worker", lease_expired),
        ("lines", counts["lines"]),
        ("functions", counts["functions"]),
        ("classes", counts["classes"]),
    ):
        ran.add_row(name, f"{value:,}")
    ran.add_row("seconds", f"{seconds:.1f}")
    ran.add_row("jobs/s", f"{len(jobs) / seconds:,.0f}")
    console.print(ran)

    why = Table("What is dead", "Why", "Last failure", box=SIMPLE_HEAD)
    why.columns[0].no_wrap = True
    for job in sorted(dead, key=lambda job: files.get(job.id, "")):
        path = Path(files.get(job.id, job.id))
        shown = str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
        # Out of attempts is what they all should be.
        reason = f"{job.attempt} attempts" if job.dead_reason == EXPECTED else job.dead_reason
        failure = f"{job.failure.type}: {job.failure.message}" if job.failure else ""
        why.add_row(Text(shown), reason, Text(failure))
    console.print(why)
