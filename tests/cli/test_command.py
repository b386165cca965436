"""What holds for every command: help with examples, exit codes, one-line errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.cli.conftest import Command, Line
from towline import errors
from towline.cli.app import build
from towline.cli.exits import Exit, Failed, UsageError, code_of


def commands(app: typer.Typer, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every command and group below an app."""
    yield path
    for command in app.registered_commands:
        assert command.name
        yield (*path, command.name)
    for group in app.registered_groups:
        assert group.typer_instance
        assert group.name
        yield from commands(group.typer_instance, *path, group.name)


ALL = list(commands(build()))
# All that call the broker once: a worker waits for it, and what is new needs none.
GROUPS = {(), ("dead",), ("job",), ("workers",), ("new",)}
CALLS = [path for path in ALL if path not in {*GROUPS, ("worker",), ("new", "job")}]
ARGUMENTS = {
    ("push",): ("Stack",),
    ("pause",): ("q",),
    ("resume",): ("q",),
    ("purge",): ("q", "--yes"),
    ("drain",): ("q",),
    ("dead", "show"): ("x",),
    ("dead", "requeue"): ("--all", "--yes"),
    ("dead", "discard"): ("--all", "--yes"),
    ("job", "show"): ("x",),
    ("job", "cancel"): ("x",),
    ("workers", "stop"): ("w",),
}


def test_every_command_that_was_asked_for_is_there() -> None:
    names = {" ".join(path) for path in ALL}
    assert names >= {
        *("worker", "push", "stats", "queues", "pause", "resume", "purge", "drain"),
        *("top", "check", "new job"),
        *("dead list", "dead show", "dead requeue", "dead discard"),
        *("job show", "job list", "job cancel", "workers list", "workers stop"),
    }


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_examples_that_are_of_the_command(towline: Command, path: tuple[str, ...]) -> None:
    done = towline(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out == towline(*path, "-h").out
    _, _, examples = done.out.partition("Examples:\n")
    assert " ".join(("towline", *path)) in examples
    assert all(len(line) <= 80 for line in done.out.splitlines())


def test_help_lists_the_exit_codes(towline: Command) -> None:
    out = towline("--help").out
    for code in Exit:
        assert f"\n    {code.value} " in out


@pytest.mark.parametrize("path", CALLS, ids=" ".join)
def test_without_a_broker_it_is_one_line_and_exit_code_3(
    towline: Command, path: tuple[str, ...]
) -> None:
    done = towline(*path, *ARGUMENTS.get(path, ()), "--url", "127.0.0.1:1")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("towline: no broker can be reached at 127.0.0.1:1;")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pusj",), "No such command 'pusj'. Did you mean 'push'"),
        (("stats", "--jsn"), "No such option: --jsn"),
        (("stats", "--url", "nowhere"), "--url: expected host:port"),
        (("stats", "--timeout", "soon"), "--timeout: 'soon' is no duration"),
        (("stats", "--timeout", "0"), "--timeout: must be longer than 0"),
        (("job", "list", "--limit", "many"), "--limit"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    towline: Command, arguments: tuple[str, ...], message: str
) -> None:
    done = towline(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1


def test_a_wrong_address_in_the_environment_is_named(
    towline: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_URL", "nowhere")
    done = towline("stats")
    assert done.code == 2
    assert "TOWLINE_URL: expected host:port" in done.err


def test_without_a_command_it_shows_the_help(towline: Command) -> None:
    for path in ((), ("dead",), ("job",)):
        done = towline(*path)
        assert (done.code, done.out) == (2, "")
        assert "Usage: " in done.err


def test_version(towline: Command) -> None:
    assert towline("--version").out.startswith("towline 0.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (Failed("x"), 1),
        (Failed("x", Exit.TIMEOUT), 4),
        (errors.InvalidArgument("x"), 2),
        (errors.NotFound("x"), 1),
        (errors.BrokerUnavailable("x"), 3),
        (errors.BrokerUnavailable("x", reason="DISK_FULL"), 6),
        (errors.DeadlineExceeded("x"), 4),
        (errors.Unauthenticated("x"), 5),
        (errors.PermissionDenied("x"), 5),
        (errors.QueueFull("x"), 6),
        (errors.ResourceExhausted("x"), 6),
        (errors.BrokerError("x", code="INTERNAL"), 70),
        (errors.BrokerError("x", code="UNIMPLEMENTED"), 3),
        (errors.NotSupported("x", code="UNIMPLEMENTED", reason="STORE_CANNOT"), 2),
        (errors.JobFailed("x"), 1),
        (ZeroDivisionError("x"), None),
    ],
)
def test_each_error_has_its_exit_code(error: Exception, code: int | None) -> None:
    assert code_of(error) == code


def test_a_defect_is_told_without_a_trace_unless_asked_for(
    towline: Command, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("towline.cli.stats.stats_json", broken)
    done = towline("stats", "--json")
    assert done.code == 70
    assert done.err.count("\n") == 1
    assert "a defect of this command: ZeroDivisionError: oops" in done.err
    monkeypatch.setenv("TOWLINE_DEBUG", "1")
    assert "Traceback" in towline("stats", "--json").err


@pytest.mark.parametrize("jobs", [50, 1000], ids=["met at the end", "met in the middle"])
def test_a_closed_pipe_is_no_defect(line: Line, jobs: int) -> None:
    line.push(jobs)
    shell = f"{sys.executable} -m towline.cli job list --json --limit 1000 | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('gone', name='typer')")
    program = "import sys; from towline.cli import main; sys.argv[1:] = ['stats']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "towline: this command needs the extra: pip install 'towline[cli]' (typer is missing)"
    ]


def test_completion_is_offered(towline: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TOWLINE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "towline dead re")
    monkeypatch.setenv("COMP_CWORD", "2")
    done = subprocess.run(
        [Path(sys.executable).with_name("towline")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["requeue"]
