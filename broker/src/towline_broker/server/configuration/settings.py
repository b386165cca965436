"""What can be set, its defaults and its bounds. Where the values come from: :mod:`.sources`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from towline_broker.core import queue_options
from towline_broker.core.routing import Routes
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.time import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros
from towline_broker.server.addresses import Address
from towline_broker.server.configuration.auth_settings import AuthSettings
from towline_broker.server.configuration.guard_settings import GuardSettings
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.marks import AT_START, LIVE, Expected, Section
from towline_broker.server.configuration.quantities import Bytes, Duration, in_units
from towline_broker.server.configuration.queue_settings import (
    QueueName,
    QueueOptions,
    beyond_limits,
)
from towline_broker.server.configuration.store_settings import (
    Mistakes,
    StoreName,
    StoreUrl,
    all_stores,
    mistakes,
    to_routes,
)
from towline_broker.server.configuration.telemetry_settings import TelemetrySettings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.event_loop import Choice
from towline_broker.services.limits import MIB, Limits

ENV_PREFIX = "TOWLINE_"
ENV_DELIMITER = "__"

#: gRPC counts the bytes of a message in an int32.
MAX_MESSAGE = 2_047 * MIB

#: More than a machine has use for.
MAX_PROCESSES = 256

ADDRESS = Expected("HOST:PORT")

Size = Annotated[ByteSize, Bytes(1, MAX_MESSAGE)]

Wait = Annotated[Micros, Duration(0, 1 * HOUR)]
Term = Annotated[Micros, Duration(100 * MILLISECOND, 366 * DAY)]
Memory = Annotated[Micros, Duration(0, 366 * DAY)]
Age = Annotated[Micros, Duration(1 * SECOND, 1 * DAY)]
Tick = Annotated[Micros, Duration(1 * MILLISECOND, 1 * MINUTE)]
Delay = Annotated[Micros, Duration(1 * SECOND, 100 * 366 * DAY)]

_LIMITS = Limits()
#: Stores keep these in columns of that width, so they can only be lowered.
UniqueKey = Annotated[ByteSize, Bytes(1, _LIMITS.unique_key_bytes)]
CallerId = Annotated[ByteSize, Bytes(1, _LIMITS.caller_id_bytes)]
_CORE = CoreSettings()


def _address(text: str) -> str:
    Address.parse(text)
    return text.strip()


class LimitSettings(Section):
    """The fields of :class:`Limits`, as an operator may set them."""

    batch: Annotated[int, Field(ge=1, le=100_000)] = _LIMITS.batch
    """Jobs, acks, nacks, leases or ids in one call."""
    page: Annotated[int, Field(ge=1, le=100_000)] = _LIMITS.page
    """Jobs in one page of a list, or handled by one call on dead letters and queues."""
    payload_bytes: Size = ByteSize(_LIMITS.payload_bytes)
    """The payload of a job."""
    headers_bytes: Size = ByteSize(_LIMITS.headers_bytes)
    """All keys and values of the headers of a job together."""
    header_key_bytes: Size = ByteSize(_LIMITS.header_key_bytes)
    """One key of the headers."""
    content_type_bytes: Size = ByteSize(_LIMITS.content_type_bytes)
    """The content type of a payload."""
    unique_key_bytes: UniqueKey = ByteSize(_LIMITS.unique_key_bytes)
    """The unique key of a job."""
    result_bytes: Size = ByteSize(_LIMITS.result_bytes)
    """What an Ack may store as the result of a job."""
    checkpoint_bytes: Size = ByteSize(_LIMITS.checkpoint_bytes)
    """What a heartbeat may store as the checkpoint of a job."""
    caller_id_bytes: CallerId = ByteSize(_LIMITS.caller_id_bytes)
    """Ids of workers and of requests."""
    message_bytes: Size = ByteSize(_LIMITS.message_bytes)
    """One request, or one reply; a reply that would be larger brings fewer jobs."""
    queues_per_reserve: Annotated[int, Field(ge=1, le=10_000)] = _LIMITS.queues_per_reserve
    """Queues that one Reserve may name."""
    weight: Annotated[int, Field(ge=1, le=1_000_000)] = _LIMITS.weight
    """The weight of a queue in a Reserve."""
    wait: Wait = _LIMITS.wait
    """How long a Reserve or GetJob may be parked."""
    min_lease: Term = _LIMITS.min_lease
    """The shortest lease that may be asked for."""
    max_lease: Term = _LIMITS.max_lease
    """The longest lease that may be asked for."""
    start_delay: Delay = _LIMITS.start_delay
    """The delay before a first attempt, and the time to expire."""
    period: Delay = _LIMITS.period
    """Retry delays, time-outs, retention, and how long a unique key is held."""
    max_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = _LIMITS.max_attempts
    """Attempts that the retry policy of a job may allow."""
    retry_delays: Annotated[int, Field(ge=1, le=10_000)] = _LIMITS.retry_delays
    """Delays that a retry policy may list."""
    retry_multiplier: Annotated[float, Field(ge=1, le=1_000_000)] = _LIMITS.retry_multiplier
    """The multiplier of exponential retry delays."""
    failure_type_bytes: Size = ByteSize(_LIMITS.failure_type_bytes)
    """The type of a failure; what is longer is cut."""
    failure_message_bytes: Size = ByteSize(_LIMITS.failure_message_bytes)
    """The message of a failure; what is longer is cut."""
    failure_trace_bytes: Size = ByteSize(_LIMITS.failure_trace_bytes)
    """The trace of a failure; what is longer is cut."""
    progress_message_bytes: Size = ByteSize(_LIMITS.progress_message_bytes)
    """The text of a progress; what is longer is cut."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        least = self.to_limits().least_message_bytes
        if self.message_bytes < least:
            raise ValueError(
                f"message_bytes is {self.message_bytes}, but a job with its payload and result can "
                f"take {least} bytes: raise it, or lower payload_bytes or result_bytes"
            )
        if self.min_lease > self.max_lease:
            raise ValueError("min_lease is longer than max_lease")
        return self

    def to_limits(self) -> Limits:
        return Limits(**self.model_dump())


class CoreOptions(Section):
    """The fields of :class:`CoreSettings`, as an operator may set them."""

    settle_memory: Memory = _CORE.settle_memory
    """How long settled jobs and leases are remembered (P4)."""
    default_lease: Term = _CORE.default_lease
    """The lease of a Reserve that asks for none."""
    max_queue_depth: Annotated[int, Field(ge=1)] = _CORE.max_queue_depth
    """Live jobs in one queue; beyond it Push is refused."""
    max_queues: Annotated[int, Field(ge=1)] = _CORE.max_queues
    """Queues in one store; beyond it a Push that would make another is refused."""
    max_waiters: Annotated[int, Field(ge=1)] = _CORE.max_waiters
    """Parked calls; beyond it Reserve is refused."""
    worker_memory: Term = _CORE.worker_memory
    """A worker that is silent for so long is no longer listed."""
    max_workers: Annotated[int, Field(ge=1)] = _CORE.max_workers
    """Workers that are remembered; beyond it those heard of longest ago are forgotten."""
    upkeep_batch: Annotated[int, Field(ge=1, le=100_000)] = _CORE.upkeep_batch
    """Records that one step of upkeep handles, so that calls come in between."""
    upkeep_interval: Tick = _CORE.upkeep_interval
    """How long upkeep may sleep; an orphaned job is back within its lease and this."""

    def to_core(self) -> CoreSettings:
        return CoreSettings(**self.model_dump())


class Settings(BaseSettings):
    """Everything that ``towline-broker serve`` can be told."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=False,  # defaults are in microseconds already
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        use_attribute_docstrings=True,
    )

    store: Annotated[StoreUrl, AT_START] = "sqlite:///towline.db"
    """Url of the store "default": the one of every queue of which nothing else is said."""
    stores: Annotated[dict[StoreName, StoreUrl], AT_START] = {}
    """Further stores: name to url."""
    queues: Annotated[dict[QueueName, QueueOptions], AT_START] = {}
    """What is set for a queue, or for all whose names fit a pattern."""
    processes: Annotated[int, Field(ge=1, le=MAX_PROCESSES), AT_START] = 1
    """Broker processes on this address, over stores that processes share."""
    listen: Annotated[str, AfterValidator(_address), ADDRESS, AT_START] = "127.0.0.1:7480"
    """Where gRPC is served; port 0 is any free one."""
    tls: Annotated[TlsSettings, AT_START] = TlsSettings()
    """Certificates: the broker's own, and those of who vouches for clients."""
    auth: Annotated[AuthSettings, LIVE] = AuthSettings()
    """Who may call, and what they may do; the files that it names are read again when they change.
    Whether anybody is asked at all, by any setting here or none, is decided at the start."""
    guards: GuardSettings = GuardSettings()
    """What each identity may take of the broker, so that others have their share."""
    insecure: Annotated[bool, AT_START] = False
    """Serve an address that other machines reach without TLS and authentication."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], LIVE] = "info"
    """The least level that is logged."""
    log_format: Annotated[Literal["console", "json"], LIVE] = "console"
    """For people, or for machines."""
    drain_timeout: Annotated[Wait, LIVE] = 30 * SECOND
    """How long running calls may take to end when the broker stops."""
    drain_delay: Annotated[Wait, LIVE] = 0
    """How long a broker that stops goes on as before while its health says that it will, so that
    balancers turn away from it first."""
    wait_for_store: Annotated[Wait, AT_START] = 30 * SECOND
    """How long a start tries again while a store cannot be reached; 0: it fails at once."""
    max_connection_age: Annotated[Wait, AT_START] = 30 * MINUTE
    """After about so long a client is asked to connect anew, so that clients spread over the
    brokers behind one address again; 0: never. Its calls go on meanwhile."""
    max_stream_age: Annotated[Age, AT_START] = 10 * MINUTE
    """How long a PushStream or Work stream may be open before its client is asked to open another,
    so that streams, too, spread over the brokers again."""
    event_loop: Annotated[Choice, AT_START] = "auto"
    """What the broker runs on. auto: uvloop where it is installed, with which a call takes less of
    the processor, else asyncio."""
    limits: Annotated[LimitSettings, AT_START] = LimitSettings()
    """How large that may be which calls bring; the contract states the defaults."""
    core: Annotated[CoreOptions, AT_START] = CoreOptions()
    """Memories and bounds of the broker."""
    http: Annotated[HttpSettings, AT_START] = HttpSettings()
    """Figures for Prometheus, and probes."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """What is told of calls to others."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        low, high = self.limits.min_lease, self.limits.max_lease
        if not low <= self.core.default_lease <= high:
            raise ValueError(
                f"core.default_lease is {in_units(self.core.default_lease)}; limits.min_lease and "
                f"limits.max_lease allow {in_units(low)} to {in_units(high)}"
            )
        return self

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Self:
        self.auth.check_certificates(self.tls.client_ca)
        return self

    @model_validator(mode="after")
    def _queues_can_be_kept(self) -> Self:
        found = [
            *mistakes(self.all_stores, self.queues),
            *beyond_limits(self.queues, self.limits.to_limits()),
        ]
        if found:
            raise Mistakes(found)
        return self

    @property
    def all_stores(self) -> dict[str, str]:
        """Name to url, the default one first."""
        return all_stores(self.store, self.stores)

    def to_routes(self) -> Routes:
        return to_routes(self.queues)

    def to_queue_options(self) -> dict[str, queue_options.QueueOptions]:
        """What is set for queues, by name or pattern."""
        return {name: options.to_core() for name, options in self.queues.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Made in code, settings are what the code says; sources.py reads the rest and keeps track
        # of where each value came from.
        return (init_settings,)
