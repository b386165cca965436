"""The command ``towline-broker``."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from towline_broker import quiet  # noqa: F401 -- has its effect before gRPC is loaded
from towline_broker.commands import journal, move, schema
from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.server.exits import ConfigError, ExitCode
from towline_broker.server.logs import configure_logs
from towline_broker.server.processes import run_processes
from towline_broker.server.running import run
from towline_broker.server.serving import VERSION
from towline_broker.server.sources import load_settings
from towline_broker.server.store_settings import is_store_name

app = typer.Typer(
    name="towline-broker",
    help="Towline: a job-queue broker that anyone can call over gRPC.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# \b keeps the lines of a paragraph as they are.
SERVE_HELP = """Run a broker until Ctrl-C or SIGTERM.

Settings come from options, then the environment (TOWLINE_STORE, TOWLINE_LIMITS__PAYLOAD_BYTES, also
in a file .env), then a file (--config, TOWLINE_CONFIG, or towline-broker.toml in this folder), then
defaults. Which queue is kept in which store is set there only: [queues."emails.*"] store = "fast".

\b
Exit codes:
  0         stopped by a signal: drained, or told to stop before it served
  2         wrong use of this command
  66        the store was refused: its url or password is wrong, it is not ours,
            it needs an upgrade or a newer broker, or another broker owns it
  69        the address is in use, or the store cannot be reached (--wait-for-store)
  70        a defect of the broker
  74        the store failed
  75        told to stop, but something hung or the store did not close, within
            --drain-timeout and 5 s; nothing that was acknowledged is lost
  78        a setting is wrong
  130, 143  stopped at once, by a second signal (SIGINT, SIGTERM)
"""

SERVE_EXAMPLES = """\b
Examples:
  towline-broker serve
  towline-broker serve --store sqlite:////var/lib/towline/jobs.db
  towline-broker serve --store memory: --listen 127.0.0.1:0 --ready-file address
  towline-broker serve --store postgresql://queue@db/jobs --processes 4
  towline-broker serve --store sqlite:///jobs.db --store fast=redis://cache:6379
  towline-broker serve --tls-cert broker.pem --tls-key broker.key
  towline-broker serve --config /etc/towline/broker.yaml --log-format json
"""


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    console = "console"
    json = "json"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"towline-broker {VERSION}")
        raise typer.Exit


@app.callback()
def broker(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Towline: a job-queue broker that anyone can call over gRPC."""


@app.command(help=SERVE_HELP, epilog=SERVE_EXAMPLES)
def serve(
    store: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]URL",
            help="Where jobs are kept. Again with NAME=URL: a further store, for the queues that "
            "the settings give to it. [default: sqlite:///towline.db]",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve gRPC; port 0 is any free one. [default: 127.0.0.1:7480]",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Settings in TOML, YAML or JSON."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Broker processes on this address, over stores that processes share. [default: 1]",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Serve TLS: the certificate, and those between it and its root."
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The private key of that certificate.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Ask each client for a certificate that one of these vouches for."
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve figures for Prometheus, and probes, over HTTP; off: nowhere. "
            "[default: 127.0.0.1:7481]",
        ),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option(
            "--insecure",
            help="Listen on an address that other machines reach, without TLS or identities.",
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Least level that is logged. [default: info]")
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="For people or for machines. [default: console]")
    ] = None,
    drain_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long running calls may take to end when the broker stops. [default: 30s]",
        ),
    ] = None,
    wait_for_store: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long to try again while a store cannot be reached; 0: fail at once. "
            "[default: 30s]",
        ),
    ] = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write the address there once the broker serves."),
    ] = None,
) -> None:
    given: dict[str, Any] = {
        **_stores(store or ()),
        "listen": listen,
        "processes": processes,
        **_tls(cert=tls_cert, key=tls_key, client_ca=tls_client_ca),
        "http": None if http is None else {"listen": http},
        "insecure": insecure,
        "log_level": log_level and log_level.value,
        "log_format": log_format and log_format.value,
        "drain_timeout": drain_timeout,
        "wait_for_store": wait_for_store,
    }
    options = {name: value for name, value in given.items() if value is not None}
    try:
        settings = load_settings(options, config)
    except ConfigError as error:
        typer.echo(f"towline-broker: {error}", err=True)
        raise typer.Exit(ExitCode.CONFIG) from None
    configure_logs(settings.log_level, settings.log_format)
    runner = run if settings.processes == 1 else run_processes
    raise typer.Exit(runner(settings, ready_file))


def _tls(**files: Path | None) -> dict[str, Any]:
    given = {name: file for name, file in files.items() if file is not None}
    return {"tls": given} if given else {}


def _stores(given: Sequence[str]) -> dict[str, Any]:
    """What the options --store set: one without a name the default store, the others those of their
    names."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, url = text.partition("=")
        if not (equals and is_store_name(name)):
            name, url = DEFAULT_STORE, text
        stores = found if name == DEFAULT_STORE else found.setdefault("stores", {})
        key = "store" if name == DEFAULT_STORE else name
        if key in stores:
            raise typer.BadParameter(f"two urls for store {name}", param_hint="'--store'")
        stores[key] = url
    return found


move.register(app)
app.add_typer(journal.app)
app.add_typer(schema.app)


def main() -> None:
    """Entry point of the command."""
    app()
