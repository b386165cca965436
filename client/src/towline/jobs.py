"""Defining jobs: the Job base class, and @job for functions."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import (
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
from towline.options import POLICY_NAMES, Backoff, PolicyOptions, check_name, check_options
from towline.registry import JobDefinition, Registry, default_registry
from towline.serialization import record_for

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
    it sets that. A subclass that is only there to be inherited from says
    ``class Base(Job, abstract=True)``. ``registry=`` puts the type into a registry of your own.

    Policy is set by class attributes without annotation; towline.DispatchOptions explains each.
    ``unique_key`` may also be a method that returns the key, or None for a job that is not unique.

    Creating a subclass raises InvalidJob when a field or policy is impossible.
    """

    job_type: ClassVar[str] = ""
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
        _check_field_names(cls)
        _check_misspelled(cls)
        options = check_options(
            {name: inspect.getattr_static(cls, name) for name in POLICY_NAMES}, cls.__qualname__
        )
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
        _check_handle(cls)
        definition = JobDefinition(cls, cls.job_type, options, runnable=_overrides(cls, "handle"))
        (registry or default_registry).register(definition)
        cls.__towline_definition__ = definition

    def handle(self) -> Any:
        """Do the work; may be ``async def``. What it returns, as JSON, is the result of the job."""
        raise InvalidJob(f"{type(self).__qualname__} has no handle(), so it cannot be run here")

    def next_retry_delay(self, attempt: int, error: BaseException) -> Seconds | None:
        """Return how long to wait after this failed attempt (the first is 1); None: by policy."""
        return None

    def should_retry(self, error: BaseException) -> bool:
        """Return False to send the job to the dead-letter queue without further attempts."""
        return True

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


# Annotating one of these makes it a field, which is never meant.
_RESERVED = frozenset(name for name in vars(Job) if not name.startswith("_"))


def _check_field_names(cls: type[Job]) -> None:
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # it was made one just now
        if field.name in POLICY_NAMES or field.name == "job_type":
            raise InvalidJob(
                f"{cls.__qualname__}.{field.name}: this is policy, not a field: write "
                f"`{field.name} = ...` without annotation, or give the field another name"
            )
        if field.name in _RESERVED:
            raise InvalidJob(
                f"{cls.__qualname__}.{field.name}: a field cannot have the name of a method of Job"
            )


def _check_misspelled(cls: type[Job]) -> None:
    """Refuse what is nearly a name of policy, which would be passed over in silence."""
    for name, value in vars(cls).items():
        if name.startswith("_") or name in _RESERVED or callable(value):
            continue
        meant = difflib.get_close_matches(name, POLICY_NAMES, n=1, cutoff=0.8)
        if meant and name not in cls.__annotations__:
            raise InvalidJob(
                f"{cls.__qualname__}.{name}: did you mean {meant[0]!r}? If not, annotate it: "
                f"`{name}: ClassVar[...]`"
            )


def _check_handle(cls: type[Job]) -> None:
    handle: Any = cls.handle
    where = f"{cls.__qualname__}.handle()"
    if not callable(handle):
        raise InvalidJob(f"{where}: expected a method, got {handle!r}")
    _refuse_generator(handle, where)
    try:
        inspect.signature(handle).bind(None)
    except TypeError as error:
        raise InvalidJob(
            f"{where}: is called with self alone, what it works on are fields of the job: {error}"
        ) from None
    except ValueError:
        return  # compiled code may have no signature


def _refuse_generator(function: Callable[..., Any], where: str) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidJob(f"{where}: is a generator, so calling it would not run it; use return")


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
        policy: Mapping[str, Any],
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._signature = inspect.signature(function)
        self.parameters = tuple(self._signature.parameters)
        self.job_class = _class_for(function, self._signature, type, registry, policy)

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
            raise InvalidJob(f"{self.job_class.job_type}: {error}") from None
        return self.job_class(**bound.arguments)


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...


@overload
def job(
    *, type: str | None = None, registry: Registry | None = None, **policy: Unpack[PolicyOptions]
) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...


def job(
    function: Callable[..., Any] | None = None,
    /,
    *,
    type: str | None = None,
    registry: Registry | None = None,
    **policy: Any,
) -> Any:
    """Make a job of a function, sync or async, with or without options.

        @job(queue="reports", max_attempts=5)
        def build_report(month: str) -> int: ...

    Its parameters are the fields of the job, its name is the type unless ``type`` gives another.
    The options are the policy, as on a Job class; ``unique_key`` may be a function of the job.
    Raises InvalidJob for parameters that cannot be carried and for impossible policy.
    """

    def decorate(function: Callable[P, R]) -> JobFunction[P, R]:
        if not inspect.isroutine(function):
            raise InvalidJob(
                f"@job: expected a function, got {function!r}; options are named: @job(queue=...)"
            )
        return JobFunction(function, type, registry, policy)

    return decorate if function is None else decorate(function)


def _class_for(
    function: Callable[..., Any],
    signature: inspect.Signature,
    type: str | None,
    registry: Registry | None,
    policy: Mapping[str, Any],
) -> type[Job]:
    """Return a Job class whose fields are the parameters and whose handle() calls the function."""
    name = function.__name__
    _refuse_generator(function, name)
    for option in policy:
        if option not in POLICY_NAMES:
            raise InvalidJob(f"{name}: @job has no option {option!r}")
    fields = [_field_for(parameter, name) for parameter in signature.parameters.values()]

    def arguments(job: Job) -> dict[str, Any]:
        return {parameter: getattr(job, parameter) for parameter in signature.parameters}

    def handle(self: Job) -> Any:
        return function(**arguments(self))

    async def handle_async(self: Job) -> Any:
        return await function(**arguments(self))

    def body(namespace: dict[str, Any]) -> None:
        namespace.update(
            policy,
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
    if parameter.name in _RESERVED:
        raise InvalidJob(
            f"{function}: a parameter of a job cannot be called {parameter.name!r}, which is "
            "an option or a method of Job"
        )
    annotation, default = parameter.annotation, parameter.default
    if default is not inspect.Parameter.empty and default.__class__.__hash__ is None:
        # Shared by all calls, as the default of a function is.
        default = dataclasses.field(default_factory=lambda: parameter.default)
    return parameter.name, Any if annotation is inspect.Parameter.empty else annotation, default
