"""Both commands complete what is typed, in bash, zsh and fish."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from towline.cli.app import build
from towline_broker.cli import app as broker

COMMANDS = Path(sys.executable).parent
#: As bash does it when somebody presses Tab.
IN_BASH = """
PATH="$1:$PATH"
eval "$(_TOWLINE{broker}_COMPLETE=source_bash $2)"
function=$(complete -p "$2" | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$2" "$3" "$4") COMP_CWORD=2
$function "$2" "$4" "$3"
echo "${{COMPREPLY[*]}}"
"""


@pytest.mark.parametrize(
    ("command", "group", "begun", "completed"),
    [("towline", "dead", "re", "requeue"), ("towline-broker", "journal", "ch", "check")],
)
def test_bash(command: str, group: str, begun: str, completed: str) -> None:
    script = IN_BASH.format(broker="_BROKER" if command == "towline-broker" else "")
    words = ("bash", "-c", script, "bash", str(COMMANDS), command, group, begun)
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.stderr) == (completed, "")


@pytest.mark.parametrize(
    ("app", "command", "typed", "completed"),
    [
        (build(), "towline", "towline push --prio", "--priority"),
        (broker, "towline-broker", "towline-broker serve --log-f", "--log-format"),
    ],
)
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_others(shell: str, app: typer.Typer, command: str, typed: str, completed: str) -> None:
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"

    def told(what: str) -> str:
        arguments = {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
        environment = {variable: f"{what}_{shell}", **arguments}
        return CliRunner().invoke(app, [], env=environment, prog_name=command).output

    assert variable in told("source")
    assert completed in told("complete")
