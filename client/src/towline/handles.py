"""Jobs that were dispatched, as their producers hold them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from towline.durations import Seconds
from towline.requests import CancelOutcome, Pushed
from towline.status import ErrorClasses, JobStatus

if TYPE_CHECKING:
    from towline.aio import AsyncClient
    from towline.client import Client

T = TypeVar("T")


class JobHandle:
    """A job that was dispatched.

    ``created`` is False when the broker held the job, or one with the same unique key, already:
    ``id`` is then that of the one it holds.
    """

    def __init__(self, client: Client, pushed: Pushed) -> None:
        self._client = client
        self.id = pushed.job_id
        self.created = pushed.created
        self._content_type = pushed.content_type

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}>"

    def status(self) -> JobStatus:
        """Return what has become of the job. Raises NotFound."""
        return self._client.get(self.id)

    def wait(self, timeout: Seconds | None = None) -> JobStatus:
        """Return the job once it has ended, however it ended: Client.wait."""
        return self._client.wait(self.id, timeout).written_as(self._content_type)

    def watch(
        self, *, interval: Seconds = 0.5, timeout: Seconds | None = None
    ) -> Iterator[JobStatus]:
        """Yield the job whenever it has changed, until it has ended: Client.watch."""
        for status in self._client.watch(self.id, interval=interval, timeout=timeout):
            yield status.written_as(self._content_type)

    @overload
    def result(self, timeout: Seconds | None = None, *, errors: ErrorClasses = ()) -> Any: ...

    @overload
    def result(
        self,
        timeout: Seconds | None = None,
        *,
        into: type[T],
        errors: ErrorClasses = (),
    ) -> T: ...

    @overload
    def result(
        self,
        timeout: Seconds | None = None,
        *,
        into: object,
        errors: ErrorClasses = (),
    ) -> Any: ...

    def result(
        self,
        timeout: Seconds | None = None,
        *,
        into: Any = None,
        errors: ErrorClasses = (),
    ) -> Any:
        """Return what the handler returned, once the job has succeeded, as JSON values.

        ``into`` is a type of which it is to be, such as a dataclass or a protobuf message.
        ``timeout`` as in Client.wait. Raises JobFailed when the job is dead, its notes telling the
        traceback in the worker; JobCancelled; ResultTimeout; NotFound when its retention is over;
        and InvalidPayload for a result that cannot be read, or does not fit the type.

        ``errors`` are classes of exceptions. When the handler's last one has the name of one of
        them, that class is raised, with the message and the notes, instead of JobFailed.
        """
        return self.wait(timeout).outcome(into, errors)

    def cancel(self) -> CancelOutcome:
        """Cancel the job."""
        return self._client.cancel(self.id)[self.id]


class AsyncJobHandle:
    """A job that was dispatched; see towline.client.JobHandle."""

    def __init__(self, client: AsyncClient, pushed: Pushed) -> None:
        self._client = client
        self.id = pushed.job_id
        self.created = pushed.created
        self._content_type = pushed.content_type

    def __repr__(self) -> str:
        return f"<AsyncJobHandle {self.id}>"

    async def status(self) -> JobStatus:
        """JobHandle.status."""
        return await self._client.get(self.id)

    async def wait(self, timeout: Seconds | None = None) -> JobStatus:
        """JobHandle.wait."""
        return (await self._client.wait(self.id, timeout)).written_as(self._content_type)

    async def watch(
        self, *, interval: Seconds = 0.5, timeout: Seconds | None = None
    ) -> AsyncIterator[JobStatus]:
        """JobHandle.watch."""
        async for status in self._client.watch(self.id, interval=interval, timeout=timeout):
            yield status.written_as(self._content_type)

    @overload
    async def result(self, timeout: Seconds | None = None, *, errors: ErrorClasses = ()) -> Any: ...

    @overload
    async def result(
        self,
        timeout: Seconds | None = None,
        *,
        into: type[T],
        errors: ErrorClasses = (),
    ) -> T: ...

    @overload
    async def result(
        self,
        timeout: Seconds | None = None,
        *,
        into: object,
        errors: ErrorClasses = (),
    ) -> Any: ...

    async def result(
        self,
        timeout: Seconds | None = None,
        *,
        into: Any = None,
        errors: ErrorClasses = (),
    ) -> Any:
        """JobHandle.result."""
        return (await self.wait(timeout)).outcome(into, errors)

    def __await__(self) -> Generator[Any, None, Any]:
        """``await handle`` is ``await handle.result()``."""
        return self.result().__await__()

    async def cancel(self) -> CancelOutcome:
        """JobHandle.cancel."""
        return (await self._client.cancel(self.id))[self.id]
