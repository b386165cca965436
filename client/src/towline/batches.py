"""Any number of jobs on their way to the broker, in as many calls as it takes; no I/O here."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from towline import requests
from towline.errors import BatchFailed, CallFailed, InvalidJob, TowlineError, from_item_error
from towline.requests import MAX_BYTES, MAX_JOBS, Pushed
from towline.serializers import JSON, Serializer
from towline.v1 import job_pb2, queue_service_pb2


class Part:
    """Jobs that are pushed in a row; ``first`` is the place of the first one in the whole batch.

    For each of ``requests()`` the caller reports the answer to ``answered`` or the failure to
    ``failed``, which ends the part; ``outcomes`` closes it. ``messages`` are the jobs; what is
    changed in them before ``requests()`` is sent so.
    """

    def __init__(self, messages: Sequence[job_pb2.Job], first: int, *, allow_partial: bool) -> None:
        self.messages = messages
        self.first = first
        self._allow_partial = allow_partial
        self._pushed: dict[int, Pushed] = {}
        self._errors: dict[int, TowlineError] = {}
        self.cut_off = False
        """Whether a call failed as a whole, so that those after it were not made."""

    def requests(self) -> Iterator[tuple[int, queue_service_pb2.PushRequest]]:
        """The calls to make, each with the place of its first job in this part."""
        start = size = 0
        for index, message in enumerate(self.messages):
            bytes_of_job = message.ByteSize()
            if index > start and (index - start == MAX_JOBS or size + bytes_of_job > MAX_BYTES):
                yield start, self._request(start, index)
                start, size = index, 0
            size += bytes_of_job
        if start < len(self.messages):
            yield start, self._request(start, len(self.messages))

    def _request(self, start: int, end: int) -> queue_service_pb2.PushRequest:
        return queue_service_pb2.PushRequest(
            jobs=self.messages[start:end], allow_partial=self._allow_partial
        )

    def answered(
        self,
        start: int,
        request: queue_service_pb2.PushRequest,
        response: queue_service_pb2.PushResponse,
    ) -> None:
        """Raises BrokerError when the answer does not fit the request."""
        results = requests.read_push(response, len(request.jobs))
        for index, result in enumerate(results, start):
            place = self.first + index
            if result.outcome == queue_service_pb2.PUSH_OUTCOME_REJECTED:
                error = from_item_error(result.error)
                self._errors[place] = requests.relocated(error, self.first + start)
            else:
                self._pushed[place] = requests.read_pushed(result, self.messages[index])

    def failed(self, start: int, error: CallFailed) -> None:
        """Raises the error itself when no job of this part can have been stored before it."""
        error = requests.relocated(error, self.first + start)
        if not self._pushed and not self._errors:
            raise error
        self.cut_off = True
        for index in range(start, len(self.messages)):
            self._errors[self.first + index] = error

    def outcomes(self) -> list[Pushed]:
        """Return where each job went. Raises BatchFailed when some were not stored."""
        if self._errors:
            stored = {place: pushed.job_id for place, pushed in self._pushed.items()}
            raise BatchFailed(stored, self._errors)
        return list(self._pushed.values())


class Batch:
    """The jobs of one dispatch_batch, by their place.

    A list is checked as a whole before any of it is sent, and is one part. What can be read only
    once, such as a generator, is pushed while it is read, a part of at most 1,000 jobs at a time,
    so that it may be longer than the memory is large.

        for job in jobs:
            for part in batch.read(job): ...      # push it
        for part in batch.rest(): ...
        batch.outcomes()

    What pushing a part returned is reported to ``stored``, and what it raised to ``failed``.
    """

    def __init__(
        self,
        jobs: object,
        options: Mapping[str, Any],
        *,
        allow_partial: bool,
        serializer: Serializer = JSON,
        may_be_async: bool = False,
    ) -> None:
        if options.get("id") is not None:
            raise InvalidJob("dispatch_batch: id names one job; give it by JobRequest")
        requests.dispatch_options(options, "dispatch_batch")
        # The letters of a string would be taken for names of types.
        if isinstance(jobs, (str, bytes)) or not (
            isinstance(jobs, Iterable) or (may_be_async and isinstance(jobs, AsyncIterable))
        ):
            raise InvalidJob(
                f"dispatch_batch: expected a list of jobs, got a {type(jobs).__name__}"
            )
        self._whole = isinstance(jobs, Collection)
        self._options = options
        self._allow_partial = allow_partial
        self._serializer = serializer
        self._messages: list[job_pb2.Job] = []
        self._bytes = 0
        self._first = 0
        self._pushed: dict[int, Pushed] = {}
        self._errors: dict[int, TowlineError] = {}

    def read(self, job: object) -> Iterator[Part]:
        """Take the next job; yields a part when one is complete.

        Raises what makes the job impossible: at once if nothing was sent before it, else as
        BatchFailed, the jobs before it having been pushed.
        """
        try:
            message = requests.job_message(job, None, self._options, self._serializer)
        except TowlineError as error:
            place = self._first + len(self._messages)
            if self._whole or place == 0:
                error.add_note(f"This was job {place} of the batch; none of it was sent.")
                raise
            yield from self.rest()
            self._errors[place] = error
            raise self._broken() from error
        size = message.ByteSize()
        if not self._whole and (
            len(self._messages) == MAX_JOBS or (self._messages and self._bytes + size > MAX_BYTES)
        ):
            yield from self.rest()
        self._messages.append(message)
        self._bytes += size

    def rest(self) -> Iterator[Part]:
        """Yields what was read and is not pushed yet."""
        if not self._messages:
            return
        messages, first = self._messages, self._first
        self._messages, self._bytes, self._first = [], 0, first + len(messages)
        yield Part(messages, first, allow_partial=self._allow_partial)

    def stored(self, part: Part, pushed: Sequence[Pushed]) -> None:
        self._pushed |= dict(enumerate(pushed, part.first))

    def failed(self, part: Part, error: TowlineError) -> None:
        """Raises what ends the batch; with allow_partial, refusals of single jobs do not."""
        if self._whole:
            raise error  # it tells of all jobs as it is
        if isinstance(error, BatchFailed):
            for place, job_id in error.stored.items():
                self._pushed[place] = Pushed(job_id, created=False)
            self._errors |= error.errors
            if self._allow_partial and not part.cut_off:
                return
        elif not self._pushed and not self._errors:
            raise error
        else:
            places = range(part.first, part.first + len(part.messages))
            self._errors |= dict.fromkeys(places, error)
        raise self._broken() from error

    def interrupted(self, error: BaseException) -> None:
        """Take note of what ended the batch from outside, such as the generator of its jobs."""
        if self._pushed and not isinstance(error, BatchFailed):
            error.add_note(f"{len(self._pushed)} jobs of the batch had been stored before.")

    def outcomes(self) -> list[Pushed]:
        """Return where each job went. Raises BatchFailed when some were not stored."""
        if self._errors:
            raise self._broken()
        return list(self._pushed.values())

    def _broken(self) -> BatchFailed:
        stored = {place: pushed.job_id for place, pushed in self._pushed.items()}
        return BatchFailed(stored, self._errors)
