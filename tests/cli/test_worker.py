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
from pathlib import Path
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
    Path("started").touch()
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
        # Leased is not enough: what a worker was given and has not begun, it gives back.
        deadline = time.monotonic() + 30
        while not (app / "started").exists():
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


WORKER = """
from towline import Worker
from app import jobs

seen = []
worker = Worker(queues=["{queue}"], max_jobs=1, on_job_complete=lambda job, result: print("told"))
"""


def test_a_worker_that_a_module_has_made_runs_as_it_is(line: Line, app: Path) -> None:
    (app / "app" / "worker.py").write_text(WORKER.format(queue=line.queue))
    job = line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue)
    done = subprocess.run(
        [sys.executable, "-m", "towline.cli", "worker", "app.worker:worker"],
        cwd=app,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "told\n"
    assert job.result(timeout=10) == 3


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("app.worker:worker", ["-c", "3"], "--concurrency: a Worker that is named has options of"),
        ("app.worker:seen", [], "MODULE: 'seen' in app.worker is no Worker"),
        ("app.worker:", [], "MODULE: '' in app.worker is no Worker"),
        ("app.absent:worker", [], "MODULE: there is no module 'app.absent'"),
        ("app.jobs", ["--preload", "absent"], "--preload: there is no module 'absent'"),
        ("app.jobs", ["--tries", "0"], "--tries: expected a whole number"),
        ("app.jobs", ["--type", "Absent"], "--type: "),
        ("app.jobs", ["--job-timeout", "never"], "--job-timeout: 'never' is no duration"),
        ("app.jobs", ["--max-memory", "much"], "--max-memory: expected"),
        ("app.jobs", ["--health-port", "99999"], "--health-port: expected"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_option(
    line: Line, app: Path, place: str, options: list[str], said: str
) -> None:
    (app / "app" / "worker.py").write_text(WORKER.format(queue=line.queue))
    done = subprocess.run(
        [sys.executable, "-m", "towline.cli", "worker", place, *options],
        cwd=app,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_last_try_can_be_told_to_a_worker(line: Line, app: Path) -> None:
    job = line.client.dispatch("nap", {"seconds": "long"}, queue=line.queue, max_attempts=9)
    failing = line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue, max_attempts=9)
    (app / "app" / "failing.py").write_text(
        "from app import jobs\n\ndef fail(self):\n    raise ValueError\n\njobs.Add.handle = fail\n"
    )
    said = run(app, "--preload", "app.failing", "--tries", "1", "--max-jobs", "2")
    assert job.status().state == "DEAD"  # it cannot be decoded
    assert failing.status().state == "DEAD", said


def test_other_types_are_left_to_other_workers(line: Line, app: Path) -> None:
    other = line.client.dispatch("shout", {"text": "ahoy"}, queue=line.queue)
    mine = line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue)
    run(app, "--type", "Add", "--max-jobs", "1")
    assert mine.result(timeout=10) == 3
    assert other.status().state in ("SCHEDULED", "READY")


@pytest.mark.parametrize("asked_for", ["as an option", "by towline.toml"])
def test_reload_starts_anew_when_the_program_changes(line: Line, app: Path, asked_for: str) -> None:
    options = ["--reload"] if asked_for == "as an option" else []
    if not options:
        (app / "towline.toml").write_text("[worker]\nreload = true\n")
    with worker(app, *options, "--queue", line.queue) as process:
        first = line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue)
        assert first.result(timeout=30) == 3
        path = app / "app" / "jobs.py"
        path.write_text(path.read_text().replace("self.a + self.b", "self.a * 100 + self.b"))
        deadline = time.monotonic() + 30
        while line.client.dispatch("Add", {"a": 1, "b": 2}, queue=line.queue).result(20) != 102:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert "changed: app/jobs.py" in err
    assert "Traceback" not in err
