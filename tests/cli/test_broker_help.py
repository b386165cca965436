"""The help of every command of ``towline-broker``: what it does, examples, exit codes."""

from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from towline_broker.cli import app


def commands(of: typer.Typer, *path: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The path of every command and group below an app, and whether it is a command."""
    for command in of.registered_commands:
        callback = command.callback
        assert callback is not None
        yield (*path, command.name or callback.__name__.replace("_", "-")), True
    for group in of.registered_groups:
        below = group.typer_instance
        assert below is not None
        name = group.name or below.info.name
        assert isinstance(name, str)
        yield (*path, name), False
        yield from commands(below, *path, name)


ALL = dict(commands(app))
LEAVES = [path for path, is_command in ALL.items() if is_command]


def helped(*path: str) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], prog_name="towline-broker")
    assert done.exit_code == 0, done.output
    assert done.output == CliRunner().invoke(app, [*path, "-h"], prog_name="towline-broker").output
    return done.output


def test_the_help_of_all_lists_every_command_and_the_exit_codes() -> None:
    told = helped()
    for path in ALL:
        assert f"\n  {path[0]} " in told
    for code in (0, 2, 66, 69, 70, 74, 78):
        assert f"\n    {code} " in told
    assert "\n    towline-broker serve\n" in told


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_each_says_what_it_does_on_lines_that_fit_a_terminal(path: tuple[str, ...]) -> None:
    told = helped(*path)
    usage, _, rest = told.strip().partition("\n\n")
    assert usage.startswith(f"Usage: towline-broker {' '.join(path)} ")
    assert rest.partition("\n\n")[0].strip().endswith(".")
    assert [line for line in told.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_each_has_examples_of_its_own_and_its_exit_codes(path: tuple[str, ...]) -> None:
    told = helped(*path)
    _, found, examples = told.partition("\n  Examples:\n")
    assert found
    assert f"    towline-broker {' '.join(path)}" in examples
    codes = told.partition("\n  Exit codes:\n")[2].partition("\n\n")[0]
    assert codes.startswith("    0 ")
    assert len(codes.splitlines()) > 1
