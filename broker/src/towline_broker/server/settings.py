"""What can be set, its defaults and its bounds. Where the values come from: :mod:`.sources`."""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from towline_broker.core.routing import Routes
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.time import DAY, HOUR, MILLISECOND, MINUTE, SECOND, Micros, to_seconds
from towline_broker.server.addresses import Address
from towline_broker.server.quantities import in_units, span
from towline_broker.server.store_settings import (
    Mistakes,
    QueueName,
    QueueOptions,
    StoreName,
    StoreUrl,
    all_stores,
    mistakes,
    to_routes,
)
from towline_broker.services.limits import MIB, Limits

ENV_PREFIX = "TOWLINE_"
ENV_DELIMITER = "__"

#: gRPC counts the bytes of a message in an int32.
MAX_MESSAGE = 2_047 * MIB

#: More than a machine has use for.
MAX_PROCESSES = 256

Size = Annotated[ByteSize, Field(ge=1, le=MAX_MESSAGE)]
#: What the validators read again.
_in_seconds = PlainSerializer(to_seconds, when_used="json")

Wait = Annotated[Micros, BeforeValidator(span(0, 1 * HOUR)), _in_seconds]
Term = Annotated[Micros, BeforeValidator(span(100 * MILLISECOND, 366 * DAY)), _in_seconds]
Memory = Annotated[Micros, BeforeValidator(span(0, 366 * DAY)), _in_seconds]
Tick = Annotated[Micros, BeforeValidator(span(1 * MILLISECOND, 1 * MINUTE)), _in_seconds]
Delay = Annotated[Micros, BeforeValidator(span(1 * SECOND, 100 * 366 * DAY)), _in_seconds]

_LIMITS = Limits()
#: Stores keep these in columns of that width, so they can only be lowered.
UniqueKey = Annotated[ByteSize, Field(ge=1, le=_LIMITS.unique_key_bytes)]
CallerId = Annotated[ByteSize, Field(ge=1, le=_LIMITS.caller_id_bytes)]
_CORE = CoreSettings()


def _address(text: str) -> str:
    Address.parse(text)
    return text.strip()


class LimitSettings(BaseModel):
    """The fields of :class:`Limits`, as an operator may set them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: Annotated[int, Field(ge=1, le=100_000)] = _LIMITS.batch
    page: Annotated[int, Field(ge=1, le=100_000)] = _LIMITS.page
    payload_bytes: Size = ByteSize(_LIMITS.payload_bytes)
    headers_bytes: Size = ByteSize(_LIMITS.headers_bytes)
    header_key_bytes: Size = ByteSize(_LIMITS.header_key_bytes)
    content_type_bytes: Size = ByteSize(_LIMITS.content_type_bytes)
    unique_key_bytes: UniqueKey = ByteSize(_LIMITS.unique_key_bytes)
    result_bytes: Size = ByteSize(_LIMITS.result_bytes)
    checkpoint_bytes: Size = ByteSize(_LIMITS.checkpoint_bytes)
    caller_id_bytes: CallerId = ByteSize(_LIMITS.caller_id_bytes)
    message_bytes: Size = ByteSize(_LIMITS.message_bytes)
    queues_per_reserve: Annotated[int, Field(ge=1, le=10_000)] = _LIMITS.queues_per_reserve
    weight: Annotated[int, Field(ge=1, le=1_000_000)] = _LIMITS.weight
    wait: Wait = _LIMITS.wait
    min_lease: Term = _LIMITS.min_lease
    max_lease: Term = _LIMITS.max_lease
    start_delay: Delay = _LIMITS.start_delay
    period: Delay = _LIMITS.period
    max_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = _LIMITS.max_attempts
    retry_delays: Annotated[int, Field(ge=1, le=10_000)] = _LIMITS.retry_delays
    retry_multiplier: Annotated[float, Field(ge=1, le=1_000_000)] = _LIMITS.retry_multiplier
    failure_type_bytes: Size = ByteSize(_LIMITS.failure_type_bytes)
    failure_message_bytes: Size = ByteSize(_LIMITS.failure_message_bytes)
    failure_trace_bytes: Size = ByteSize(_LIMITS.failure_trace_bytes)
    progress_message_bytes: Size = ByteSize(_LIMITS.progress_message_bytes)

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


class CoreOptions(BaseModel):
    """The fields of :class:`CoreSettings`, as an operator may set them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settle_memory: Memory = _CORE.settle_memory
    default_lease: Term = _CORE.default_lease
    max_queue_depth: Annotated[int, Field(ge=1)] = _CORE.max_queue_depth
    max_waiters: Annotated[int, Field(ge=1)] = _CORE.max_waiters
    worker_memory: Term = _CORE.worker_memory
    max_workers: Annotated[int, Field(ge=1)] = _CORE.max_workers
    upkeep_batch: Annotated[int, Field(ge=1, le=100_000)] = _CORE.upkeep_batch
    upkeep_interval: Tick = _CORE.upkeep_interval

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
    )

    #: Url of the store called "default": the one of every queue of which nothing else is said.
    store: StoreUrl = "sqlite:///towline.db"
    #: Further stores: name to url.
    stores: dict[StoreName, StoreUrl] = {}
    #: By the name of a queue or a pattern of names.
    queues: dict[QueueName, QueueOptions] = {}
    #: Broker processes that serve one address.
    processes: Annotated[int, Field(ge=1, le=MAX_PROCESSES)] = 1
    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:7480"
    insecure: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    drain_timeout: Wait = 30 * SECOND
    limits: LimitSettings = LimitSettings()
    core: CoreOptions = CoreOptions()

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
    def _name_stores_that_exist(self) -> Self:
        found = list(mistakes(self.all_stores, self.queues))
        if found:
            raise Mistakes(found)
        return self

    @property
    def all_stores(self) -> dict[str, str]:
        """Name to url, the default one first."""
        return all_stores(self.store, self.stores)

    def to_routes(self) -> Routes:
        return to_routes(self.queues)

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
