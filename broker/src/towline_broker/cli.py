"""The command ``towline-broker``."""

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
from towline_broker.commands.helping import examples
from towline_broker.commands.settings_options import with_settings
from towline_broker.server.configuration.sources import Sources
from towline_broker.server.exits import ConfigError, ExitCode
from towline_broker.server.life.processes import run_processes
from towline_broker.server.life.running import run
from towline_broker.server.logs import configure_logs
from towline_broker.server.serving import VERSION

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

\b
Exit codes, of which each command says what they mean there:
  0         done, or ended as it should
  1         the answer is no: damaged, not serving, not found, not done
  2         wrong use
  65        a file that was given is not what it should be
  66        a store was refused
  69        an address, a store or a broker is not to be had
  70        a defect of the broker
  73        a file cannot be read or written
  74        a store, or the file of tokens, failed
  75        told to stop, and did not in time
  78        a setting is wrong
  130, 143  stopped at once, by a signal
"""

SERVE_HELP = """Run a broker until Ctrl-C or SIGTERM.

Settings come from options, then the environment (TOWLINE_STORE, TOWLINE_LIMITS__PAYLOAD_BYTES, also
in a file .env), then a file (--config, TOWLINE_CONFIG, or towline-broker.toml in this folder), then
defaults. What is set for queues stands there only: [queues."emails.*"] store = "fast". See also
"towline-broker config". SIGHUP makes a broker reread them, and take over what can change.

\b
Exit codes:
  0         stopped by a signal: drained, or told to stop before it served
  2         wrong use of this command
  66        the store was refused: its url or password is wrong, it is not
            ours, needs an upgrade or a newer broker, or another one owns it
  69        the address is in use, or the store cannot be reached
            (--wait-for-store)
  70        a defect of the broker
  74        the store failed
  75        told to stop, but something hung, or the store did not close,
            within --drain-timeout and 5 s; nothing acknowledged is lost
  78        a setting is wrong
  130, 143  stopped at once, by a second signal (SIGINT, SIGTERM)
"""

SERVE_EXAMPLES = """\b
Examples:
  towline-broker serve
  towline-broker serve --store sqlite:////var/lib/towline/jobs.db
  towline-broker serve --store memory: --listen 127.0.0.1:0 --ready-file where
  towline-broker serve --store postgresql://queue@db/jobs --processes 4
  towline-broker serve --store sqlite:///jobs.db --store fast=redis://cache
  towline-broker serve --tls-cert broker.pem --tls-key broker.key
  towline-broker serve --config /etc/towline/broker.yaml --log-format json
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"towline-broker {VERSION}")
        raise typer.Exit


@app.callback(
    help=HELP,
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


@app.command(help=SERVE_HELP, epilog=SERVE_EXAMPLES)
@with_settings
def serve(
    sources: Sources,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write the address there once the broker serves."),
    ] = None,
) -> None:
    try:
        settings = sources.load().settings
    except ConfigError as error:
        typer.echo(f"towline-broker: {error}", err=True)
        raise typer.Exit(ExitCode.CONFIG) from None
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
    app()
