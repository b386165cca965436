"""The command ``towline-broker``."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from towline_broker import quiet  # noqa: F401 -- has its effect before gRPC is loaded
from towline_broker.commands import (
    backup,
    check,
    config,
    doctor,
    export,
    health,
    import_,
    journal,
    move,
    schema,
    token,
)
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.loading import loaded
from towline_broker.commands.settings_options import with_settings
from towline_broker.server.configuration.sources import Sources
from towline_broker.server.exits import Codes, ExitCode
from towline_broker.server.life.processes import run_processes
from towline_broker.server.life.running import run
from towline_broker.server.logs import configure_logs
from towline_broker.server.serving import VERSION
from towline_broker.server.streams import complain, hold_closed

app = typer.Typer(
    name="towline-broker",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# \b keeps the lines of a paragraph as they are.
HELP = """Towline: a job-queue broker that anyone can call over gRPC.

"serve" runs a broker; the other commands check it, look into its stores and look after them.
Producers, workers and operators of queues use the command "towline".

Each command says in its help what its exit codes mean there.
"""

SERVE_HELP = """Run a broker until Ctrl-C or SIGTERM.

Settings come from options, then the environment (TOWLINE_STORE, TOWLINE_LIMITS__PAYLOAD_BYTES, also
in a file .env), then a file (--config, TOWLINE_CONFIG, or towline-broker.toml in this folder), then
defaults. What is set for queues stands there only: [queues."emails.*"] store = "fast". See also
"towline-broker config". SIGHUP makes a broker reread them, and take over what can change.
"""

SERVE_CODES: Codes = {
    ExitCode.OK: "stopped by a signal: drained, or told to stop before it served",
    ExitCode.STORE_REFUSED: "the store was refused: its url or password is wrong, it is not ours, "
    "needs an upgrade or a newer broker, or another one owns it",
    ExitCode.UNAVAILABLE: "the address is in use or not this machine's, or the store cannot be "
    "reached (--wait-for-store)",
    ExitCode.UNEXPECTED: "a defect of the broker; the log has a traceback",
    ExitCode.NOT_WRITTEN: "--ready-file cannot be written",
    ExitCode.STORE_FAILED: "the store failed: nothing was answered after that",
    ExitCode.CUT_OFF: "told to stop, but something hung, or the store did not close, within "
    "--drain-timeout and 5 s; nothing acknowledged is lost",
    ExitCode.CONFIG: "a setting is wrong; each is named with its place",
    ExitCode.INTERRUPTED: "stopped at once, by a second signal (SIGINT)",
    ExitCode.TERMINATED: "stopped at once, by a second signal (SIGTERM)",
}

SERVE_EXAMPLES = examples(
    "towline-broker serve",
    "towline-broker serve --store sqlite:////var/lib/towline/jobs.db",
    "towline-broker serve --store memory: --listen 127.0.0.1:0 --ready-file where",
    "towline-broker serve --store postgresql://queue@db/jobs --processes 4",
    "towline-broker serve --store sqlite:///jobs.db --store fast=redis://cache",
    "towline-broker serve --tls-cert broker.pem --tls-key broker.key",
    "towline-broker serve --config /etc/towline/broker.yaml --log-format json",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"towline-broker {VERSION}")
        raise typer.Exit


@app.callback(
    help=with_codes(HELP, dict.fromkeys(ExitCode, "")),
    epilog=examples(
        "towline-broker serve",
        "towline-broker config check --config /etc/towline/broker.toml",
        "towline-broker token create --name mailer --push 'emails.*'",
        "towline-broker health",
    ),
)
def broker(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """What all commands have."""


@app.command(help=with_codes(SERVE_HELP, SERVE_CODES), epilog=SERVE_EXAMPLES)
@with_settings
def serve(
    sources: Sources,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the address there once the broker serves."),
    ] = None,
) -> None:
    settings = loaded(sources).settings
    configure_logs(settings.log_level, settings.log_format)
    runner = run if settings.processes == 1 else run_processes
    raise typer.Exit(runner(settings, ready_file, sources))


move.register(app)
backup.register(app)
check.register(app)
export.register(app)
import_.register(app)
health.register(app)
doctor.register(app)
app.add_typer(config.app)
app.add_typer(journal.app)
app.add_typer(schema.app)
app.add_typer(token.app)


def main() -> None:
    """Entry point of the command."""
    hold_closed()
    try:
        app()
    except Exception:  # 1, with which Python would end, is an answer of many commands
        complain(traceback.format_exc())
        sys.exit(ExitCode.UNEXPECTED)
