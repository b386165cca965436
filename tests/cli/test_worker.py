"""`towline worker`: a process that runs what a module defines."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Line

JOBS = """
import asyncio, time
from towline import Job, job

class Add(Job):
    queue = "{queue}"
    a: int
    b: int

    def handle(self) -> int:
        return self.a + self.b

@job(queue="{queue}")
async def shout(text: str) -> str:
    await asyncio.sleep(0)
    return text.upper()

@job(queue="{queue}")
def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"
"""


@pytest.fixture
def app(tmp_path: Path, line: Line) -> Path:
    """A folder with app/jobs.py."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "jobs.py").write_text(JOBS.format(queue=line.queue))
    return tmp_path


@contextmanager
def worker(app: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "towline.cli", "worker", "app.jobs", *options],
        cwd=app,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def said_by(process: "subprocess.Popen[str]") -> str:
    """Wait for its end, which must be a good one; return what it said."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == ""
    return err


def run(app: Path, *options: str) -> str:
    """Run a worker that ends by itself; return what it said."""
    with worker(app, *options) as process:
        return said_by(process)


@pytest.mark.parametrize("pool", ["thread", "async", "process"])
def test_it_runs_the_jobs_of_the_module_and_ends_after_max_jobs(
    line: Line, app: Path, pool: str
) -> None:
    added = line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue)
    shouted = line.client.dispatch("shout", {"text": "ahoy"}, queue=line.queue)
    said = run(app, "--pool", pool, "--max-jobs", "2")
    assert added.result(timeout=10) == 3
    assert shouted.result(timeout=10) == "AHOY"
    assert "jobs    Add, nap, shout" in said
    assert f"queues  {line.queue}" in said
    assert "ahoy" not in said.lower()


def test_it_says_of_each_job_that_it_is_done_unless_it_is_to_be_quiet(
    line: Line, app: Path
) -> None:
    ids = [line.client.dispatch("Add", {"a": n, "b": 2}, queue=line.queue).id for n in range(3)]
    default, verbose = run(app, "--max-jobs", "1"), run(app, "--max-jobs", "1", "--verbose")
    assert f"job {ids[0]} (Add, attempt 1) is done in " in default
    assert "starts" not in default
    assert f"job {ids[1]} (Add, attempt 1) starts" in verbose
    assert f"job {ids[1]} (Add, attempt 1) is done in " in verbose
    assert run(app, "--max-jobs", "1", "--quiet") == ""


def test_quiet_and_verbose_exclude_each_other(app: Path) -> None:
    with worker(app, "--quiet", "--verbose") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--quiet" in err


def test_once_runs_one_job_or_says_that_there_is_none(line: Line, app: Path) -> None:
    jobs = [line.client.dispatch("Add", {"a": n, "b": 2}, queue=line.queue) for n in range(2)]
    for job in jobs:
        run(app, "--once", "--queue", line.queue)
        assert job.status().state == "SUCCEEDED"
    assert "no job was ready" in run(app, "--once")


def test_a_process_pool_is_made_before_the_command_connects(line: Line, app: Path) -> None:
    job = line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue)
    run(app, "--once", "--queue", line.queue, "--pool", "process", "--max-memory-per-child", "1GB")
    assert job.status().state == "SUCCEEDED"


def test_several_processes_share_the_work(line: Line, app: Path) -> None:
    jobs = [line.client.dispatch("Add", {"a": n, "b": 2}, queue=line.queue) for n in range(4)]
    said = run(app, "--queue", line.queue, "--processes", "2", "--max-jobs", "2")
    assert [job.result(timeout=10) for job in jobs] == [2, 3, 4, 5]
    assert len(set(re.findall(r"worker (\S+) takes jobs", said))) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pool", "fibre"], '--pool: expected "thread", "async" or "process"'),
        (["--processes", "0"], "--processes: expected a whole number"),
        (["--pool", "process", "--max-memory-per-child", "5"], "--max-memory-per-child: expected"),
        (["--max-jobs-per-child", "5"], "--max-jobs-per-child, --max-memory-per-child: there are"),
    ],
)
def test_options_that_make_no_sense_are_named(app: Path, options: list[str], said: str) -> None:
    with worker(app, *options) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in err


def test_sigterm_lets_the_running_job_finish(line: Line, app: Path) -> None:
    running = line.client.dispatch("nap", {"seconds": 1}, queue=line.queue)
    options = ("--queue", f"{line.queue}=3", "--queue", "other=1", "--concurrency", "1")
    with worker(app, *options) as process:
        deadline = time.monotonic() + 30
        while running.status().state != "LEASED":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said = said_by(process)
    assert running.status().result == "rested"
    assert f"queues  {line.queue}=3, other=1" in said


def test_max_time_ends_it(line: Line, app: Path) -> None:
    run(app, "--max-time", "200ms", "--verbose")


def test_once_without_a_broker_is_exit_code_3(app: Path) -> None:
    with worker(app, "--once", "--url", "127.0.0.1:1") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "no broker can be reached at 127.0.0.1:1" in err
    assert "Traceback" not in err
