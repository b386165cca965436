"""The options of ``serve`` that are settings, for every command that reads settings as it does."""

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from towline_broker.commands import options
from towline_broker.core.routing import DEFAULT_STORE
from towline_broker.server.configuration.sources import Sources
from towline_broker.server.configuration.store_settings import is_store_name


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(StrEnum):
    console = "console"
    json = "json"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter, ``sources``, stands for all options that are settings."""
    options = inspect.signature(_sources).parameters
    own = [
        parameter
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "sources"
    ]

    @wraps(command)
    def run(**given: Any) -> None:
        settings = {name: given.pop(name) for name in options}
        command(_sources(**settings), **given)

    # Typer makes the options of a command from these.
    del run.__wrapped__
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # as inspect looks for it
        [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*options.values(), *own)]
    )
    hints = {
        **get_type_hints(_sources, include_extras=True),
        **get_type_hints(command, include_extras=True),
    }
    run.__annotations__ = {name: hint for name, hint in hints.items() if name != "sources"}
    return run


def _sources(
    store: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]URL",
            help="Where jobs are kept. Again with NAME=URL: a further store, for the queues that "
            "the settings give to it.  [default: sqlite:///towline.db]",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to serve gRPC; port 0 is any free one.  [default: 127.0.0.1:7480]",
        ),
    ] = None,
    config: options.Config = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Broker processes on this address, over stores that processes share.  "
            "[default: 1]",
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
            " [default: 127.0.0.1:7481]",
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
        LogLevel | None, typer.Option(help="Least level that is logged.  [default: info]")
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="For people or for machines.  [default: console]")
    ] = None,
    drain_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long running calls may take to end when the broker stops.  [default: 30s]",
        ),
    ] = None,
    wait_for_store: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long to try again while a store cannot be reached; 0: fail at once. "
            " [default: 30s]",
        ),
    ] = None,
) -> Sources:
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
    return Sources(options, config)


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
