"""Defining jobs: the Job base class, and @job for functions."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    dataclass_transform,
    overload,
)

from towline.durations import Seconds
from towline.errors import InvalidJob
from towline.job_checks import (
    check_aliases,
    check_errors,
    check_field_names,
    check_handle,
    check_misspelled,
    check_own_serializer,
    error_types,
    refuse_generator,
)
from towline.options import (
    DISPATCH_NAMES,
    POLICY_NAMES,
    Backoff,
    DispatchOptions,
    ErrorTypes,
    JobOptions,
    called_here,
    check_name,
    check_options,
)
from towline.registry import JobDefinition, Registry, default_registry
from towline.serialization import record_for
from towline.serializers import Serializer

if TYPE_CHECKING:
    from towline.handles import AsyncJobHandle, JobHandle

P = ParamSpec("P")
R = TypeVar("R")


@dataclass_transform(kw_only_default=True, field_specifiers=(dataclasses.field,))
class Job:
    """One unit of work. Subclass it, annotate its arguments as fields, and write handle().

        class SendEmail(Job):
            queue = "emails"
            max_attempts = 5
            to: str
            subject: str = "Hello"

            def handle(self) -> None: ...

    A subclass is a keyword-only dataclass and known to workers by its name, or by ``job_type`` if
    it sets that; ``job_aliases`` are names that it had before, under which jobs may still come. A
    subclass that is only there to be inherited from says ``class Base(Job, abstract=True)``.
    ``registry=`` puts the type into a registry of your own.

    Policy is set by class attributes without annotation; towline.DispatchOptions explains each.
    ``unique_key`` and ``display_name`` may also be methods that return it, or None for none.

    dead_on     errors after which the job is dead at once
    retry_on    errors after which it is retried; any other makes it dead. () means every error
    serializer  writes and reads its payload, instead of the client's; for one that neither a
                client nor a worker has by itself

    Creating a subclass raises InvalidJob when a field or policy is impossible.
    """

    job_type: ClassVar[str] = ""
    job_aliases: ClassVar[Sequence[str]] = ()
    queue: ClassVar[str | None] = None
    priority: ClassVar[int | None] = None
    max_attempts: ClassVar[int | None] = None
    backoff: ClassVar[Backoff | None] = None
    jitter: ClassVar[float | None] = None
    timeout: ClassVar[Seconds | None] = None
    delay: ClassVar[Seconds | None] = None
    expires_in: ClassVar[Seconds | None] = None
    retention: ClassVar[Seconds | None] = None
    unique_key: ClassVar[str | Callable[[Any], str | None] | None] = None
    unique_for: ClassVar[Seconds | None] = None
    display_name: ClassVar[str | Callable[[Any], str | None] | None] = None
    retry_on: ClassVar[ErrorTypes] = ()
    dead_on: ClassVar[ErrorTypes] = ()
    serializer: ClassVar[Serializer | None] = None

    __towline_definition__: ClassVar[JobDefinition | None] = None

    def __init_subclass__(
        cls, *, abstract: bool = False, registry: Registry | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        own_init = "__init__" in vars(cls)
        try:
            dataclasses.dataclass(kw_only=True)(cls)
        except (TypeError, ValueError) as error:
            raise InvalidJob(f"{cls.__qualname__}: {error}") from error
        check_field_names(cls, RESERVED_NAMES)
        check_misspelled(cls, RESERVED_NAMES)
        options = check_options(
            {name: inspect.getattr_static(cls, name) for name in POLICY_NAMES}, cls.__qualname__
        )
        check_errors(cls)
        check_own_serializer(cls)
        cls.__towline_definition__ = None
        if abstract:
            return
        cls.job_type = check_name(
            cls.__dict__.get("job_type", cls.__name__), f"{cls.__qualname__}.job_type"
        )
        if not (_overrides(cls, "to_dict") and _overrides(cls, "from_dict")):
            if own_init:
                raise InvalidJob(
                    f"{cls.__qualname__}.__init__(): a job is made from its fields: annotate them "
                    "in the class (__post_init__ is called after), or override to_dict() and "
                    "from_dict() as well"
                )
            with contextlib.suppress(NameError):  # a class further down; checked at first use
                record_for(cls, cls.__qualname__)
        check_handle(cls)
        definition = JobDefinition(
            cls,
            cls.job_type,
            options,
            runnable=_overrides(cls, "handle"),
            aliases=check_aliases(cls),
            own_json=_overrides(cls, "to_dict"),
        )
        (registry or default_registry).add(definition)
        cls.__towline_definition__ = definition

    def handle(self) -> Any:
        """Do the work; may be ``async def``. What it returns is the result of the job."""
        raise InvalidJob(f"{type(self).__qualname__} has no handle(), so it cannot be run here")

    def dispatch(self, **options: Unpack[DispatchOptions]) -> JobHandle:
        """Hand the job to the broker by the default client (towline.clients), as its dispatch()."""
        from towline.named import clients

        return clients.default.dispatch(self, **options)

    async def dispatch_async(self, **options: Unpack[DispatchOptions]) -> AsyncJobHandle:
        """dispatch() by the default client for asyncio."""
        from towline.named import clients

        return await clients.for_asyncio().dispatch(self, **options)

    def next_retry_delay(self, attempt: int, error: BaseException) -> Seconds | None:
        """Return how long to wait after this failed attempt (the first is 1); None: by policy."""
        return None

    def should_retry(self, error: BaseException) -> bool:
        """Return False to send the job to the dead-letter queue without further attempts.

        By default as ``dead_on`` and ``retry_on`` say, of which the first comes first.
        """
        dead_on, retry_on = error_types(type(self))
        return not isinstance(error, dead_on) and (not retry_on or isinstance(error, retry_on))

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as JSON values. Raises InvalidPayload naming a wrong field."""
        return definition_of(self).record.encode_fields(self, type(self).__name__)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the job that the JSON values describe. Whatever it raises makes the job dead."""
        definition = cls.__towline_definition__
        if definition is None:
            raise InvalidJob(f"{cls.__qualname__} is abstract")
        return cls(**definition.record.decode_fields(data, cls.__name__))


def definition_of(job: Job) -> JobDefinition:
    """Return the definition of a job. Raises InvalidJob when its class is abstract."""
    definition = type(job).__towline_definition__
    if definition is None:
        raise InvalidJob(f"{type(job).__qualname__} is abstract: it cannot be dispatched")
    return definition


RESERVED_NAMES = frozenset(name for name in vars(Job) if not name.startswith("_"))
"""What a field of a job cannot be called."""


def _overrides(cls: type[Job], method: str) -> bool:
    return inspect.getattr_static(cls, method) is not vars(Job)[method]


class JobFunction(Generic[P, R]):
    """What ``@job`` makes of a function.

    Calling it runs the function, here and now. To dispatch it, hand it to the client with its
    arguments, ``client.dispatch(build_report, month="2026-01")``, or, with the arguments checked by
    type checkers, ``client.dispatch(build_report.job(month="2026-01"))``.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[P, R],
        type: str | None,
        registry: Registry | None,
        options: Mapping[str, Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        self.parameters = tuple(self._signature.parameters)
        self.job_class = _class_for(function, self._signature, type, registry, options)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<job {self.job_class.job_type}>"

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """Return the job of calling the function with these arguments, ready to be dispatched.

        Raises InvalidJob when the function does not take them.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = next((name for name in kwargs if name not in self.parameters), "")
            meant = called_here(unknown)
            hint = f": did you mean {meant}?" if meant else ""
            if unknown in DISPATCH_NAMES:
                hint = f"; an option has its place here: .job(...).dispatch({unknown}=...)"
            raise InvalidJob(f"{self.job_class.job_type}: {error}{hint}") from None
        return self.job_class(**bound.arguments)

    def dispatch(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle:
        """Hand the job of calling it with these arguments to the broker, by the default client.

        Options are given to the job: ``build_report.job(month="2026-01").dispatch(delay=60)``.
        """
        return self.job(*args, **kwargs).dispatch()

    async def dispatch_async(self, *args: P.args, **kwargs: P.kwargs) -> AsyncJobHandle:
        """dispatch() by the default client for asyncio."""
        return await self.job(*args, **kwargs).dispatch_async()


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(
    *, type: str | None = None, registry: Registry | None = None, **options: Unpack[JobOptions]
) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    type: str | None = None,
    registry: Registry | None = None,
    **options: Any,
) -> Any:
    """Make a job of a function, sync or async, with or without options.

        @job(queue="reports", max_attempts=5)
        def build_report(month: str) -> int: ...

    Its parameters are the fields of the job, its name is the type unless ``type`` gives another.
    The options are those of a Job class; ``unique_key`` and ``display_name`` may be functions of
    the job, and ``should_retry(error)`` and ``next_retry_delay(attempt, error)`` functions too.
    Raises InvalidJob for parameters that cannot be carried and for impossible policy.
    """

    def decorate(function: Callable[P, R]) -> JobFunction[P, R]:
        if not inspect.isroutine(function):
            raise InvalidJob(
                f"@job: expected a function, got {function!r}; options are named: @job(queue=...)"
            )
        return JobFunction(function, type, registry, options)

    return decorate if function is None else decorate(function)


def _class_for(
    function: Callable[..., Any],
    signature: inspect.Signature,
    type: str | None,
    registry: Registry | None,
    options: Mapping[str, Any],
) -> type[Job]:
    """Return a Job class whose fields are the parameters and whose handle() calls the function."""
    name = function.__name__
    refuse_generator(function, name)
    attributes = _attributes(options, name)
    fields = [_field_for(parameter, name) for parameter in signature.parameters.values()]

    names = tuple(signature.parameters)

    def arguments(job: Job) -> dict[str, Any]:
        return {name: getattr(job, name) for name in names}

    def handle(self: Job) -> Any:
        return function(**arguments(self))

    async def handle_async(self: Job) -> Any:
        return await function(**arguments(self))

    def body(namespace: dict[str, Any]) -> None:
        namespace.update(
            attributes,
            __module__=function.__module__,
            __qualname__=function.__qualname__,
            __doc__=function.__doc__,
            __annotations__={parameter: annotation for parameter, annotation, _ in fields},
            job_type=type or name,
            handle=handle_async if inspect.iscoroutinefunction(function) else handle,
        )
        for parameter, _, default in fields:
            if default is not inspect.Parameter.empty:
                namespace[parameter] = default

    return types.new_class(name, (Job,), {"registry": registry}, body)


_HOOKS: Mapping[str, tuple[object, ...]] = {
    "should_retry": (Exception(),),
    "next_retry_delay": (1, Exception()),
}
"""Methods of Job that @job takes as functions, with what they are called with."""


def _attributes(options: Mapping[str, Any], function: str) -> dict[str, Any]:
    """Return the options of @job as attributes of a Job class. Raises InvalidJob."""
    attributes = dict(options)
    for name, option in options.items():
        if name in _HOOKS:
            try:
                inspect.signature(option).bind(*_HOOKS[name])
            except (TypeError, ValueError):
                wanted = ", ".join(("error",) if name == "should_retry" else ("attempt", "error"))
                raise InvalidJob(
                    f"{function}.{name}: expected a function of ({wanted}), got {option!r}"
                ) from None
            attributes[name] = staticmethod(option)
        elif name not in JobOptions.__annotations__:
            meant = "'type'" if name in ("name", "job_type") else called_here(name)
            hint = f": did you mean {meant}?" if meant else ""
            raise InvalidJob(f"{function}: @job has no option {name!r}{hint}")
    return attributes


def _field_for(parameter: inspect.Parameter, function: str) -> tuple[str, Any, Any]:
    """Return name, annotation and default of the field for a parameter."""
    if parameter.kind not in (
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    ):
        raise InvalidJob(
            f"{function}: the parameter {str(parameter)!r} cannot be carried by name; "
            "a job takes named parameters only"
        )
    if parameter.name == "self":
        raise InvalidJob(f"{function}: a method cannot be a job: use a function, or a Job class")
    if parameter.name in RESERVED_NAMES:
        raise InvalidJob(
            f"{function}: a parameter of a job cannot be called {parameter.name!r}, which is "
            "an option or a method of Job"
        )
    annotation, default = parameter.annotation, parameter.default
    if default is not inspect.Parameter.empty and default.__class__.__hash__ is None:
        # Shared by all calls, as the default of a function is.
        default = dataclasses.field(default_factory=lambda: parameter.default)
    return parameter.name, Any if annotation is inspect.Parameter.empty else annotation, default
