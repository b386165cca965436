"""Where the broker is, and channels to it.

Retries and balancing are those of gRPC itself, by a standard service config. A call that failed
with UNAVAILABLE is repeated, with a growing random delay, but only where the contract calls it safe
to repeat. So is one that the broker's end cancelled: gRPC does that to calls which reach a server
in the moment in which it stops. Where the target has several addresses, calls go to them in turn,
and a broker that is gone is passed over until it is back.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
import grpc.aio

from towline.authorized import AuthorizedChannel
from towline.bearer import INSECURE_VARIABLE, BearerToken
from towline.credentials import TlsCredentials
from towline.errors import CallFailed, ConfigurationError, from_rpc_error
from towline.renewing import RenewingAioChannel, RenewingChannel
from towline.variables import flag, warn_of_misspelt

Credentials: TypeAlias = TlsCredentials | grpc.ChannelCredentials

DEFAULT_ADDRESS = "127.0.0.1:7480"
ADDRESS_VARIABLE = "TOWLINE_URL"
PROXY_VARIABLE = "TOWLINE_USE_PROXY"

# Safe to repeat by the comments of the contract, given that the SDK sets the ids of jobs and the
# request_id of Reserve. Missing on purpose: ResetStats and PurgeQueue, RequeueDead and DiscardDead,
# of which a repeat can hit what came in between.
SAFE_TO_REPEAT = {
    "towline.v1.QueueService": (
        "Push",
        "GetJob",
        "ListJobs",
        "CancelJob",
        "Reserve",
        "Ack",
        "Nack",
        "Heartbeat",
    ),
    "towline.v1.DeadLetterService": ("ListDead",),
    "towline.v1.AdminService": (
        "Stats",
        "ListQueues",
        "PauseQueue",
        "ResumeQueue",
        "MoveQueue",
        "ListWorkers",
        "StopWorker",
    ),
}

SERVICE_CONFIG: dict[str, Any] = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in SAFE_TO_REPEAT.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "5s",
                "backoffMultiplier": 2.5,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
}

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # A call larger than this buffer is not repeated; its default, 256 KiB, is less than a batch.
    ("grpc.per_rpc_retry_buffer_size", 64 * 1024 * 1024),
    # A connection that died without a word is noticed; the broker is set to bear this pace.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # By default a channel waits up to two minutes before it looks for a broker that comes back.
    ("grpc.initial_reconnect_backoff_ms", 200),
    # What gRPC takes this for is the time that an attempt to connect has, at least.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # The broker judges what is too large, and says so by field.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)

_YEAR = 365 * 86400

_HOST_AND_PORT = re.compile(r"(?P<host>[^\s/:@]+|\[[0-9A-Fa-f:.%\w]+\]):(?P<port>\d{1,5})")
_RESOLVED_BY_GRPC = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|xds):.")
_LOCAL_HOST = r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?"
_LOCAL = re.compile(rf"unix(-abstract)?:.+|(dns:|ipv4:|ipv6:)?(///)?{_LOCAL_HOST}(,{_LOCAL_HOST})*")


def given_address(address: str | None) -> str:
    """Return the address, or for None the one that is meant then."""
    if address is None:
        return os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS
    return address


def parse_address(address: str | None = None) -> tuple[str, bool | None]:
    """Return the gRPC target of an address, and whether it asks for TLS; None: it does not say.

    ``host:port``, ``grpcs://host:port`` (TLS), ``grpc://host:port`` (none), or what gRPC resolves
    itself: ``dns:///host:port``, ``ipv4:host:port,host:port``, ``ipv6:...``, ``unix:...``. Of a
    name with several addresses, and of a list, all brokers are used in turn. None: the environment
    variable TOWLINE_URL, or else 127.0.0.1:7480. Raises ConfigurationError for anything else.
    """
    source = ADDRESS_VARIABLE if address is None else "address"
    address = given_address(address)
    if not isinstance(address, str):
        raise ConfigurationError(f"address: expected a string such as host:port, got {address!r}")
    scheme, separator, rest = address.rpartition("://")
    match = _HOST_AND_PORT.fullmatch(rest.removesuffix("/") if separator else rest)
    if match and scheme in ("", "grpc", "grpcs") and int(match["port"]) <= 65535:
        return match[0], {"grpc": False, "grpcs": True}.get(scheme)
    if _RESOLVED_BY_GRPC.match(address) and ("@" not in address or address.startswith("unix")):
        return address, None
    if "@" in address:
        raise ConfigurationError(
            f"{source}: expected host:port, without user and password: a token comes from "
            "TOWLINE_TOKEN_FILE, TOWLINE_TOKEN or token=..., a certificate from TOWLINE_CERT and "
            "TOWLINE_KEY"
        )
    raise ConfigurationError(
        f"{source}: expected host:port, grpc://host:port, grpcs://host:port, dns:///host:port, "
        f"memory:// or sync://, got {address!r}"
    )


@dataclass(frozen=True)
class Connection:
    """How to reach a broker; opens any number of channels to it.

    ``credentials`` None means an unencrypted channel. ``timeout`` is the deadline of a call in
    seconds, its repeats included. ``token`` travels with each call.
    """

    target: str
    credentials: Credentials | None = None
    timeout: float = 10.0
    token: BearerToken | None = None

    @classmethod
    def to(
        cls,
        address: str | None = None,
        *,
        credentials: Credentials | None = None,
        timeout: float = 10.0,
        token: BearerToken | str | None = None,
    ) -> "Connection":
        """Return the connection for an address.

        The environment says what is not given: TOWLINE_URL, the variables of
        TlsCredentials.from_environment and those of BearerToken.from_environment. Credentials that
        are there are used unless the address says ``grpc://``. Raises ConfigurationError, also for
        a token that would leave this machine without TLS.
        """
        given: object = given_address(address)
        if isinstance(given, str) and given.startswith("sync://"):
            raise ConfigurationError(
                "address: at sync:// jobs run where they are dispatched: there is no broker to "
                "connect to, and nothing for a worker to do"
            )
        if isinstance(given, str) and given.startswith("memory://"):
            from towline.embedded import EmbeddedConnection  # which needs this module

            return EmbeddedConnection.of(
                given, credentials=credentials, timeout=timeout, token=token
            )
        warn_of_misspelt()
        flag(PROXY_VARIABLE)  # what is wrong with it is told now
        target, tls = parse_address(address)
        if credentials is None and tls is not False:
            credentials = TlsCredentials.from_environment() or (TlsCredentials() if tls else None)
        if not isinstance(credentials, (TlsCredentials, grpc.ChannelCredentials, type(None))):
            raise ConfigurationError(
                "credentials: expected towline.TlsCredentials, or those of grpc, such as "
                f"grpc.ssl_channel_credentials(), got a {type(credentials).__name__}"
            )
        if credentials is not None and tls is False:
            raise ConfigurationError(
                f"address: {given} asks for no TLS, but credentials are given: write grpcs://{target}"
            )
        proof = BearerToken.of(token)
        if proof is not None:
            proof.read()  # what is wrong with it is told now
            _check_way(target, credentials, proof)
        return cls(target, credentials, check_timeout(timeout), proof)

    @property
    def in_this_process(self) -> bool:
        """Whether the broker is a part of this process."""
        return False

    @property
    def can_be_handed_over(self) -> bool:
        """Whether another process can be told all of it."""
        return not isinstance(self.credentials, grpc.ChannelCredentials)

    def hand_over(self) -> dict[str, Any]:
        """Return all of it as JSON values, with what is secret in it, if it can be handed over."""
        tls = self.credentials
        return {
            "target": self.target,
            "tls": tls.hand_over() if isinstance(tls, TlsCredentials) else None,
            "token": self.token and self.token.hand_over(),
        }

    @classmethod
    def handed_over(cls, told: dict[str, Any]) -> "Connection":
        """Return the connection that ``hand_over`` told of."""
        tls, token = told["tls"], told["token"]
        return cls(
            told["target"],
            tls and TlsCredentials.handed_over(tls),
            token=token and BearerToken(**token),
        )

    def open(self) -> grpc.Channel:
        """Return a new channel. It connects with its first call."""
        channel = self._open(grpc.insecure_channel, grpc.secure_channel, RenewingChannel)
        return cast(grpc.Channel, channel)

    def open_aio(self) -> grpc.aio.Channel:
        """Return a new channel of the running event loop. It connects with its first call."""
        kinds = (grpc.aio.insecure_channel, grpc.aio.secure_channel, RenewingAioChannel)
        return cast(grpc.aio.Channel, self._open(*kinds))

    def _open(
        self,
        insecure: Callable[..., Any],
        secure: Callable[..., Any],
        renewing: type[RenewingChannel],
    ) -> Any:
        _note_opened()
        tls, options = self.credentials, self._options()

        def by(credentials: TlsCredentials) -> Any:
            return secure(self.target, credentials.for_grpc(), options=options)

        if tls is None:
            channel = insecure(self.target, options=options)
        elif not isinstance(tls, TlsCredentials):
            channel = secure(self.target, tls, options=options)
        else:
            channel = renewing(tls, by) if tls.from_any_file else by(tls)
        return channel if self.token is None else AuthorizedChannel(channel, self.token)

    def _options(self) -> tuple[tuple[str, Any], ...]:
        tls = self.credentials
        # A proxy that the environment names is meant for the web, and is not to hear of tokens.
        # What is said to a broker on this machine may be plain, and stays on it.
        proxied = flag(PROXY_VARIABLE) and not _LOCAL.fullmatch(self.target)
        options = (*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", int(proxied)))
        if isinstance(tls, TlsCredentials) and tls.server_name is not None:
            return (*options, ("grpc.ssl_target_name_override", tls.server_name))
        return options

    @property
    def shows_certificate(self) -> bool:
        """Whether this client shows a certificate, as far as can be seen."""
        tls = self.credentials
        return isinstance(tls, TlsCredentials) and tls.certificate_chain is not None

    def error_of(self, error: grpc.RpcError) -> CallFailed:
        """Return what a failed call means."""
        from towline.handshakes import explained  # only what fails needs it

        return explained(from_rpc_error(error, self.target), self)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a failed call raises into the exceptions of towline.errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise self.error_of(error) from error


def _check_way(target: str, credentials: Credentials | None, token: BearerToken) -> None:
    """Raises ConfigurationError for a token that others could read on its way."""
    if credentials is not None or token.insecure or _LOCAL.fullmatch(target):
        return
    there = target.removeprefix("dns:///")
    raise ConfigurationError(
        f"token: {target} is reached without TLS, and whoever is on the way could read the token: "
        f"write grpcs://{there}, or name the authority of its certificate in TOWLINE_CA; or, in a "
        f"network that is closed to strangers, say BearerToken(..., insecure=True) or "
        f"{INSECURE_VARIABLE}=1"
    )


_opened = False


def _note_opened() -> None:
    global _opened
    _opened = True


def opened() -> bool:
    """Whether this process, or the one that it was forked from, has ever opened a channel."""
    return _opened


def check_timeout(value: object) -> float:
    """Return seconds > 0, at most a year. Raises ConfigurationError."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        # gRPC takes what its clock cannot count for a moment in the past.
        return float(min(value, _YEAR))
    raise ConfigurationError(f"call_timeout: expected seconds > 0, got {value!r}")
