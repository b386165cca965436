"""Which types of jobs this process knows.

A payload never names what to run: it carries a type, and the type is looked up here. Definitions
put themselves into the default registry when their class is created or their function is decorated;
a registry of one's own holds what it is given, and may make the jobs in its own way.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, overload

from towline import protobuf
from towline.codecs import expected
from towline.durations import as_timedelta
from towline.errors import InvalidJob, InvalidPayload
from towline.records import Record
from towline.serialization import record_for
from towline.serializers import JSON, Serializer, Serializers, media_type, read, standard, write

if TYPE_CHECKING:
    from towline.jobs import Job, JobFunction

Factory: TypeAlias = "Callable[[type[Any], Mapping[str, Any]], Job]"
"""Makes the job of a class from the values of its payload: ``job_class.from_dict(data)`` or so."""

DEFAULT_QUEUE = "default"
"""Of a job that names none, by the contract."""

Registered = TypeVar("Registered", bound="type[Job] | JobFunction[..., Any]")


class Encoded(NamedTuple):
    """A payload, and the content type that says how it is written."""

    data: bytes
    content_type: str


class JobDefinition:
    """One type of job: how to read its payload, run it and write its result.

    type       the name under which it travels
    aliases    further names under which older jobs of it may come
    job_class  the Job class; that of a function was made for it
    options    policy that the class sets, checked (see towline.options.check_options)
    is_async   whether ``run`` returns a coroutine
    timeout    seconds that an attempt may take by the policy of the class, or None
    runnable   False for a class without handle(): it can be dispatched, and run elsewhere
    factory    makes its jobs; None: that of its registry, or else ``job_class.from_dict``
    """

    def __init__(
        self,
        job_class: type[Job],
        job_type: str,
        options: Mapping[str, Any],
        *,
        runnable: bool,
        aliases: tuple[str, ...] = (),
        own_json: bool = False,
    ) -> None:
        self.job_class = job_class
        self.type = job_type
        self.aliases = aliases
        self.options = options
        self.is_async = inspect.iscoroutinefunction(job_class.handle)
        timeout: timedelta | None = options.get("timeout")
        self.timeout = None if timeout is None else timeout.total_seconds()
        self.runnable = runnable
        self.factory: Factory | None = None
        self._own_json = own_json
        self._registry: Registry | None = None
        self._serializers: Serializers | None = None

    def __repr__(self) -> str:
        return f"<JobDefinition {self.type}: {self.job_class.__module__}.{self.name}>"

    def within(self, registry: Registry, factory: Factory | None) -> JobDefinition:
        """Return this definition as a registry holds it."""
        held = copy.copy(self)
        held._registry, held.factory = registry, factory
        return held

    def reading(self, serializers: Serializers) -> JobDefinition:
        """Return this definition with what it reads payloads and writes results by."""
        reading = copy.copy(self)
        reading._serializers = serializers
        return reading

    @property
    def name(self) -> str:
        return self.job_class.__qualname__

    @cached_property
    def record(self) -> Record:
        """How the fields are written. Raises InvalidJob naming the field that cannot be."""
        try:
            return record_for(self.job_class, self.job_class.__name__)
        except NameError as error:
            raise InvalidJob(
                f"{self.name}: a field is annotated with what is not defined: {error}"
            ) from error

    @cached_property
    def _message_field(self) -> str | None:
        """The only field, if it is a protobuf message: its bytes are the whole payload then."""
        if self._own_json or self.job_class.serializer is not None:
            return None
        fields = self.record.fields
        return fields[0] if len(fields) == 1 and self._is_message(fields[0]) else None

    def _is_message(self, field: str) -> bool:
        return protobuf.is_message_type(self.record.hints[field])

    def encode(self, job: Job, serializer: Serializer = JSON) -> Encoded:
        """Return the payload of a job: by the serializer of its class, or else by the one given.

        A job whose only field is a protobuf message is that message. Raises InvalidPayload naming
        the field.
        """
        path = self.job_class.__name__
        if (field := self._message_field) is not None:
            return self._encode_message(getattr(job, field), field)
        try:
            data = job.to_dict()
        except RecursionError:
            raise InvalidPayload(f"{path}: nested too deeply, or contains itself") from None
        if not isinstance(data, Mapping):
            raise InvalidPayload(
                f"{path}: to_dict() returned a {type(data).__name__}, expected a dict"
            )
        own = self.job_class.serializer
        chosen = serializer if own is None else own
        return Encoded(write(data, path, chosen), chosen.content_type)

    def _encode_message(self, message: object, field: str) -> Encoded:
        path, kind = f"{self.job_class.__name__}.{field}", self.record.hints[field]
        if not isinstance(message, kind):
            raise expected(kind.DESCRIPTOR.full_name, message, path)
        return Encoded(protobuf.write(message, path), protobuf.CONTENT_TYPE)

    def decode(self, payload: bytes, content_type: str) -> Job:
        """Return the job that a payload describes.

        Raises InvalidPayload for a payload that no serializer reads, or that does not fit the job,
        whatever from_dict() raised; and whatever a factory raises.
        """
        path = self.type
        data = self._read(payload, content_type)
        if not isinstance(data, Mapping):
            raise InvalidPayload(f"{path}: expected an object, got a {type(data).__name__}")
        factory = self.factory
        if factory is None and self._registry is not None:
            factory = self._registry.factory
        if factory is not None:
            return self._made_by(factory, data)
        try:
            return self.job_class.from_dict(data)
        except InvalidPayload:
            raise
        except Exception as error:
            raise InvalidPayload(f"{path}: {type(error).__name__}: {error}") from error

    def _read(self, payload: bytes, content_type: str) -> Any:
        if media_type(content_type) not in protobuf.CONTENT_TYPES:
            return read(payload, self.type, self._serializer(content_type))
        if (field := self._message_field) is None:
            raise InvalidPayload(
                f"{self.type}: the payload is a protobuf message, but {self.name} has no field, or "
                "not just one, that is a message"
            )
        kind = self.record.hints[field]
        return {field: protobuf.read(kind, payload, f"{self.type}.{field}")}

    def _serializer(self, content_type: str) -> Serializer:
        own = self.job_class.serializer
        if own is not None and own.content_type == media_type(content_type):
            return own
        serializers = self._serializers or standard()
        if (found := serializers.find(content_type)) is None:
            raise InvalidPayload(f"{self.type}: the payload is {serializers.refusal(content_type)}")
        return found

    def _made_by(self, factory: Factory, data: Mapping[str, Any]) -> Job:
        job: object = factory(self.job_class, data)
        if not isinstance(job, self.job_class):
            raise InvalidJob(
                f"the factory of {self.name} returned a {type(job).__name__}, not a {self.name}"
            )
        return job

    def run(self, job: Job) -> Any:
        """Call the handler. Returns its result, or a coroutine when ``is_async``."""
        return job.handle()

    def encode_result(self, value: Any, content_type: str = "") -> bytes:
        """Return what a handler returned, written as the payload was that had ``content_type``.

        Raises InvalidPayload for what cannot be written so: in answer to a protobuf message,
        anything but a message and None.
        """
        path = f"{self.type} result"
        if media_type(content_type) not in protobuf.CONTENT_TYPES:
            return write(value, path, self._serializer(content_type))
        if value is None:
            return b""
        if protobuf.is_message(value):
            return protobuf.write(value, path)
        raise InvalidPayload(
            f"{path}: a job that came as a protobuf message returns a message or None, not a "
            f"{type(value).__name__}"
        )

    def next_retry_delay(self, job: Job, attempt: int, error: BaseException) -> timedelta | None:
        """Return the delay that the job itself wants after a failure; None: by its policy."""
        delay = job.next_retry_delay(attempt, error)
        return None if delay is None else as_timedelta(delay, f"{self.name}.next_retry_delay()")

    def should_retry(self, job: Job, error: BaseException) -> bool:
        return job.should_retry(error)


class Registry:
    """Definitions by their type.

    ``jobs`` are Job classes and functions with @job. ``factory``, which may also be set later,
    makes every job that comes in, for example with what its handler needs:

        def with_mailer(job_class, data):
            job = job_class.from_dict(data)
            job.mailer = mailer
            return job

        Worker(client, registry=Registry([SendEmail], factory=with_mailer))

    What a factory raises is a failed attempt; InvalidPayload makes the job dead.
    """

    def __init__(
        self,
        jobs: Iterable[type[Job] | JobFunction[..., Any]] = (),
        *,
        factory: Factory | None = None,
    ) -> None:
        self.factory = factory
        self._definitions: dict[str, JobDefinition] = {}
        for job in jobs:
            self.register(job)

    @overload
    def register(self, job: Registered, /, *, factory: Factory | None = None) -> Registered: ...

    @overload
    def register(
        self, /, *, factory: Factory | None = None
    ) -> Callable[[Registered], Registered]: ...

    def register(self, job: Any = None, /, *, factory: Factory | None = None) -> Any:
        """Add a Job class or a function with @job, and return it: also a decorator.

        ``factory`` makes the jobs of this type, instead of the factory of the registry. Raises
        InvalidJob for anything else, and when another definition has the type.
        """
        if job is None:
            return functools.partial(self.register, factory=factory)
        job_class = getattr(job, "job_class", job)
        definition = getattr(job_class, "__towline_definition__", None)
        if not isinstance(definition, JobDefinition):
            raise InvalidJob(
                f"register: expected a Job class that is not abstract, or a function with @job, "
                f"got {job!r}"
            )
        self.add(definition, factory)
        return job

    def add(self, definition: JobDefinition, factory: Factory | None = None) -> None:
        """Add a definition.

        It may replace the same definition, as when a module is reloaded, and one that was made
        inside a function. Raises InvalidJob when any other definition has one of its types.
        """
        names = (definition.type, *definition.aliases)
        for name in names:
            known = self._definitions.get(name)
            if known is not None and not _may_replace(known.job_class, definition.job_class):
                raise InvalidJob(
                    f"the job type {name!r} is defined twice, by "
                    f"{_full_name(known.job_class)} and by {_full_name(definition.job_class)}; "
                    "give one of them another job_type"
                )
        held = definition.within(self, factory)
        self._definitions.update(dict.fromkeys(names, held))

    def lookup(self, type: str) -> JobDefinition | None:
        """Return the definition of a type, or of an alias."""
        return self._definitions.get(type)

    def types(self) -> list[str]:
        """The known types, sorted; without their aliases."""
        return sorted({definition.type for definition in self._definitions.values()})

    def queues(self) -> list[str]:
        """The queues that types name which can be run here, sorted."""
        found = [each for each in self._definitions.values() if each.runnable]
        return sorted({each.options.get("queue", DEFAULT_QUEUE) for each in found})

    def reading(self, serializers: Serializers) -> Registry:
        """Return a view of this registry, whose definitions read and write by these serializers."""
        return _ReadingRegistry(self, serializers)


class _ReadingRegistry(Registry):
    def __init__(self, registry: Registry, serializers: Serializers) -> None:
        super().__init__()
        self._definitions = registry._definitions
        self._serializers = serializers
        self._reading: dict[JobDefinition, JobDefinition] = {}

    def lookup(self, type: str) -> JobDefinition | None:
        definition = super().lookup(type)
        if definition is None:
            return None
        if definition not in self._reading:
            self._reading[definition] = definition.reading(self._serializers)
        return self._reading[definition]


def _may_replace(known: type[Job], new: type[Job]) -> bool:
    return "<locals>" in known.__qualname__ or _origin(known) == _origin(new)


def _origin(job_class: type[Job]) -> tuple[str, str]:
    # A module that is run (python -m app.jobs) and imported as well exists twice: its file is one.
    module = sys.modules.get(job_class.__module__)
    return getattr(module, "__file__", None) or job_class.__module__, job_class.__qualname__


def _full_name(job_class: type[Job]) -> str:
    return f"{job_class.__module__}.{job_class.__qualname__}"


default_registry = Registry()
"""Where definitions go that name no other registry."""
