"""``towline-broker health``: asks a broker whether it serves, for probes and health checks."""

import http.client
from pathlib import Path
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from towline.channel import Connection
from towline.errors import ConfigurationError
from towline_broker.commands import options
from towline_broker.commands.helping import examples, with_codes
from towline_broker.commands.loading import settings_of
from towline_broker.commands.telling import in_words
from towline_broker.domain.time import MILLISECOND, MINUTE, to_seconds
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.quantities import span
from towline_broker.server.exits import Codes, ExitCode

HELP = """Ask a broker whether it serves, as a health check of a container does.

TARGET is the address of a broker, asked by the health service of gRPC, or the http:// url of a
probe, as in http://10.0.0.5:7481/readyz. Without it, it is the broker of this machine that the
settings describe (--config, TOWLINE_CONFIG, ... as of "serve"): its probe /readyz, or gRPC where
HTTP is off.
"""

EXAMPLES = examples(
    "towline-broker health",
    "towline-broker health 10.0.0.5:7480 --service towline.v1.QueueService",
    "towline-broker health grpcs://broker.internal:7480",
    "towline-broker health http://10.0.0.5:7481/readyz",
)

CODES: Codes = {
    ExitCode.OK: "it serves",
    ExitCode.NO: "it does not: it starts, drains, has lost its store, or is not there",
    ExitCode.CONFIG: "",
    ExitCode.INTERRUPTED: "",
}

#: How long an answer may take.
TIMEOUT = span(100 * MILLISECOND, 10 * MINUTE)
WEB = ("http://", "https://")
#: Addresses that stand for every one of the machine, and what is asked in their place.
EVERY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- it is not listened on here
#: What a probe may answer that is worth showing.
MOST_BYTES = 4_096


def register(app: typer.Typer) -> None:
    summary = "Ask a broker whether it serves."
    app.command("health", help=with_codes(HELP, CODES), short_help=summary, epilog=EXAMPLES)(health)


def health(
    target: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="HOST:PORT, grpcs://..., or http://...")
    ] = None,
    service: Annotated[
        str, typer.Option(metavar="NAME", help="One gRPC service.  [default: the whole broker]")
    ] = "",
    config: options.Config = None,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="Longest time for an answer.")
    ] = "3s",
) -> None:
    patience = _seconds(timeout)
    asked = target or _of_settings(config)
    if asked.startswith(WEB):
        if service:
            raise typer.BadParameter("is for gRPC: give HOST:PORT", param_hint="'--service'")
        serves, answer = _ask_probe(asked, patience)
    else:
        serves, answer = _ask_grpc(asked, service, patience)
    typer.echo(f"{asked}: {answer}", err=not serves)
    raise typer.Exit(ExitCode.OK if serves else ExitCode.NO)


def _seconds(timeout: str) -> float:
    try:
        return to_seconds(TIMEOUT(timeout))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--timeout'") from None


def _of_settings(config: Path | None) -> str:
    settings = settings_of(config)
    if settings.http.address is not None and settings.http.tls:
        raise typer.BadParameter(
            "the broker answers by HTTPS: name it as its certificate does, "
            "as in https://broker.internal:7481/readyz",
            param_hint="'TARGET'",
        )
    if settings.http.address is not None:
        return f"http://{_near(settings.http.address)}/readyz"
    if settings.tls.enabled:
        raise typer.BadParameter(
            "the broker speaks TLS and has HTTP off: name it as its certificate does, "
            "as in grpcs://broker.internal:7480",
            param_hint="'TARGET'",
        )
    return str(_near(Address.parse(settings.listen)))


def _near(address: Address) -> Address:
    return Address(EVERY.get(address.host, address.host), address.port)


def _ask_probe(url: str, timeout: float) -> tuple[bool, str]:
    try:
        with urlopen(url, timeout=timeout) as answer:  # noqa: S310 -- http and https only, above
            return True, _told(answer.read(MOST_BYTES))
    except HTTPError as error:
        with error:
            said = _told(error.read(MOST_BYTES)) or error.reason
            return False, f"{error.code} {said.removeprefix(f'{error.code}: ')}"
    except URLError as error:
        return False, f"no answer: {getattr(error.reason, 'strerror', None) or error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, f"no answer: {error}"


def _told(body: bytes) -> str:
    """The lines of a probe as one."""
    return "; ".join(body.decode("utf-8", "replace").split("\n")).strip("; ")


def _ask_grpc(address: str, service: str, timeout: float) -> tuple[bool, str]:
    try:
        connection = Connection.to(address, timeout=timeout)
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="'TARGET'") from None
    with connection.open() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False, f"it has no service {service}"
            return False, f"no answer: {in_words(connection.error_of(error))}"
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return name == "SERVING", name
