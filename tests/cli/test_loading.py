"""`towline worker MODULE` says what is wrong with MODULE before it takes a job."""

import subprocess
import sys
from pathlib import Path

import pytest

# A port where nothing listens is enough: none of these gets as far as the broker.
COMMAND = [sys.executable, "-m", "towline.cli", "worker", "--url", "127.0.0.1:1"]


def worker(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def refused(folder: Path, *arguments: str) -> str:
    done = worker(folder, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("towline: ")
    return line


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_of_the_kind", "No module named 'nothing_of_the_kind' (jobs.py, line 1)"),
        ("x = 1\n\n1 / 0", "ZeroDivisionError: division by zero (jobs.py, line 3)"),
        ("def broken(:", "SyntaxError: invalid syntax (jobs.py, line 1)"),
        ("raise SystemExit(7)", "importing app.jobs ended the process"),
        ("", "app.jobs defines no jobs"),
        ("from towline import Job\nclass Elsewhere(Job): x: int", "app.jobs defines no jobs"),
        ("from towline import Job\nclass A(Job): x: object()", "does not import: InvalidJob: A"),
    ],
)
def test_a_module_that_gives_no_jobs_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "jobs.py").write_text(source)
    assert message in refused(tmp_path, "app.jobs")


def test_a_module_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "there is no module 'app' in" in refused(tmp_path, "app.jobs")
    assert "did you mean app.jobs?" in refused(tmp_path, "app/jobs.py")
    assert "no module name" in refused(tmp_path, "a b")


def test_options_of_the_worker_are_checked_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("from towline import job\n@job\ndef a() -> None: ...")
    assert "--queue: 'a b' is no queue name" in refused(tmp_path, "jobs", "--queue", "a b")
    assert "--concurrency: expected" in refused(tmp_path, "jobs", "--concurrency", "0")
    assert "--max-jobs: expected" in refused(tmp_path, "jobs", "--max-jobs", "0")
    assert "--lease: expected" in refused(tmp_path, "jobs", "--lease", "0")
    assert "--lease: 'x' is no duration" in refused(tmp_path, "jobs", "--lease", "x")
    assert '--pool: expected "thread", "async" or "process", got' in refused(
        tmp_path, "jobs", "--pool", "fork"
    )
    assert "--url: expected host:port" in refused(tmp_path, "jobs", "--url", "nowhere")


def test_the_stack_trace_comes_only_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs.py").write_text("1 / 0")
    monkeypatch.setenv("TOWLINE_DEBUG", "1")
    done = worker(tmp_path, "jobs")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
