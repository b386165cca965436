"""What runs jobs without being a Worker: the types that are known, and what is around a handler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypedDict

from towline.errors import ConfigurationError
from towline.middleware import WorkerMiddleware
from towline.middleware.handling import HandlerMiddleware
from towline.middleware.shapes import listed
from towline.registry import JobDefinition, Registry, default_registry
from towline.serializers import Serializer, Serializers
from towline.worker.attempt import Attempt
from towline.worker.callbacks import Callbacks, Errored, JobCompleted, JobErrored, JobStarted
from towline.worker.errors import UnknownJobType
from towline.worker.leases import HeldLease, Settlement


class HandlerOptions(TypedDict, total=False):
    """Of the options of a Worker those that are about single jobs."""

    registry: Registry | None
    serializers: Iterable[Serializer]
    middleware: Iterable[WorkerMiddleware]
    on_job_start: JobStarted | None
    on_job_complete: JobCompleted | None
    on_job_error: JobErrored | None
    on_error: Errored | None


def _none_follows(_: Attempt) -> None:
    return None


class Handlers:
    """Makes the attempts of jobs that are run where they are asked for.

    ``listener`` is a middleware of the caller's own, inside of those given. Raises
    ConfigurationError for options that a Worker would not take.
    """

    def __init__(
        self,
        listener: WorkerMiddleware,
        *,
        registry: Registry | None = None,
        serializers: Iterable[Serializer] = (),
        middleware: Iterable[WorkerMiddleware] = (),
        on_job_start: JobStarted | None = None,
        on_job_complete: JobCompleted | None = None,
        on_job_error: JobErrored | None = None,
        on_error: Errored | None = None,
    ) -> None:
        if not isinstance(registry, (Registry, type(None))):
            raise ConfigurationError(f"registry: expected a Registry, got {registry!r}")
        known = default_registry if registry is None else registry
        self._registry = known.reading(Serializers(serializers))
        self._middleware = HandlerMiddleware([*listed(middleware), listener], has_loop=True)
        self.callbacks = Callbacks(on_job_start, on_job_complete, on_job_error, on_error)

    def check_without_loop(self) -> None:
        """Raise ConfigurationError if there is middleware that only an event loop can run."""
        if self._middleware.needs_loop:
            raise ConfigurationError(
                "middleware: one of them is an async generator, and there is no event loop for it "
                "here: make it a plain one, or use what is awaited"
            )

    def definition(self, job_type: str) -> JobDefinition | None:
        """Return the definition of a type, also of one that cannot be run here."""
        return self._registry.lookup(job_type)

    def queues(self) -> set[str]:
        """The queues that the known types name."""
        return set(self._registry.queues())

    def runnable(self, job_type: str, queue: str) -> JobDefinition:
        """Return the definition of a type. Raises UnknownJobType if it cannot be run here."""
        definition = self._registry.lookup(job_type)
        if definition is None:
            raise UnknownJobType(job_type, queue)
        if not definition.runnable:
            raise UnknownJobType(job_type, queue, no_handle_in=definition.name)
        return definition

    def attempt(
        self,
        held: HeldLease,
        definition: JobDefinition,
        settle: Callable[[HeldLease, Settlement], bool],
    ) -> Attempt:
        return Attempt(held, definition, self.callbacks, settle, _none_follows, self._middleware)
