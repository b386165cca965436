"""The commands put together, and what becomes of their errors."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from towline.cli import (
    check,
    dead,
    jobs,
    new,
    output,
    push,
    queues,
    settings,
    stats,
    top,
    worker,
    workers,
)
from towline.cli.exits import HELP as EXIT_CODES
from towline.cli.exits import Exit, UsageError, code_of
from towline.cli.options import examples

# What typer and its click raise for every wrong option, argument or command; it exports no name for
# the class itself.
_Misused: type[Exception] = typer.BadParameter.__bases__[0]

_HELP = f"""Towline: a job queue over gRPC. Runs workers, pushes jobs, and looks after the broker.

The broker is found by --url, or TOWLINE_URL, or at 127.0.0.1:7480. Durations are written like 30s,
5m, 1h30m or 2d. Results go to standard output, all else to standard error. TOWLINE_DEBUG=1 shows
the stack trace of an error.

\b
To a broker that speaks TLS (grpcs://), or asks who calls:
  TOWLINE_CA            file of the authority of its certificate
  TOWLINE_SERVER_NAME   the name in it, if the address has another one
  TOWLINE_TOKEN         a token; TOWLINE_TOKEN_FILE: a file that holds it
  TOWLINE_CERT          file of one's own certificate; TOWLINE_KEY: its key

url, and the options of worker and new, may also stand in the working directory, in towline.toml, in
[tool.towline] of pyproject.toml, or as variables in .env; so may the variables above.

{EXIT_CODES}"""


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.say(f"towline {version('towline')}")
        raise typer.Exit


def _root(
    context: typer.Context,
    _: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_version),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            show_default=False,
            help="Settings, as TOML.  [default: towline.toml and pyproject.toml, if they exist]",
        ),
    ] = None,
) -> None:
    group: Any = context.command
    settings.load_environment(_options(group.commands["worker"]))
    new_job = group.commands["new"].commands["job"]
    configurable = [
        settings.Command("worker", _options(group.commands["worker"])),
        settings.Command("new", _options(new_job)),
    ]
    defaults = settings.load_defaults(config, configurable, group.commands)
    settings.set_variables(defaults.variables)
    values: dict[str, Any] = {command: dict(of) for command, of in defaults.values.items()}
    values["new"] = {"job": values.get("new", {})}
    context.default_map = values
    _defaults.set(defaults)


def _options(command: Any) -> tuple[str, ...]:
    return tuple(each.name for each in command.params)


_defaults: ContextVar[settings.Defaults] = ContextVar("defaults")


def build() -> typer.Typer:
    app = typer.Typer(
        name="towline",
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(
        help=_HELP,
        epilog=examples(
            "towline worker app.jobs --queue emails",
            """towline push SendEmail '{"to": "a@b.c"}' --queue emails""",
            "towline stats",
            "towline dead list",
        ),
    )(_root)
    for module in (worker, push, stats, top, check, queues):
        module.register(app)
    app.add_typer(new.app, name="new")
    app.add_typer(dead.app, name="dead")
    app.add_typer(jobs.app, name="job")
    app.add_typer(workers.app, name="workers")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    command = get_command(build())
    try:
        code = command.main(list(arguments), prog_name="towline", standalone_mode=False)
    except _Misused as error:
        return _misused(error, arguments)
    except typer.Abort:
        output.complain("interrupted")
        return Exit.INTERRUPTED
    except Exception as error:
        return _failed(error, arguments)
    return code if isinstance(code, int) else Exit.OK


def _misused(error: Exception, arguments: Sequence[str]) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "towline"
    message = str(getattr(error, "format_message", error.__str__)())
    if context and message == context.get_help():
        # No command was named.
        output.note(message)
        return Exit.USAGE
    where = _where(message, arguments)
    output.complain(f"{message.rstrip('.')}{where}. See: {path} --help")
    return Exit.USAGE


def _where(message: str, arguments: Sequence[str]) -> str:
    """Say which file set the option that a message is about, unless it was typed."""
    option = re.search(r"--([a-z-]+)", message)
    defaults = _defaults.get(None)
    if option is None or defaults is None or any(each.startswith(option[0]) for each in arguments):
        return ""
    for (command, name), file in defaults.origins.items():
        if command in arguments and name == option[1].replace("-", "_"):
            return f" (set in {file})"
    return ""


def _failed(error: Exception, arguments: Sequence[str]) -> int:
    code = code_of(error)
    if os.environ.get("TOWLINE_DEBUG") == "1":
        traceback.print_exception(error)
    elif code is None:
        output.complain(
            f"a defect of this command: {type(error).__name__}: {error}; "
            "TOWLINE_DEBUG=1 shows where"
        )
    else:
        message = str(error)
        where = _where(message, arguments) if isinstance(error, UsageError) else ""
        output.complain(message + where)
    sys.stdout.flush()
    return Exit.DEFECT if code is None else code
