"""What a worker reports beyond the exceptions of ``towline.errors``.

TowlineError
├── UnknownJobType       a job came whose type this worker does not know, or cannot run
├── InvalidResult        a handler returned what cannot be kept as a result
├── JobTimeout           an attempt ran longer than its job allows
├── WorkerChildDied      the process that ran an attempt is gone, or none can be had
├── NotSettled           the broker refused to record an outcome
├── WorkerProcessFailed  one of several worker processes cannot work, nor could another
└── WorkerStateError     the worker is running already, or was never started

Their class names are the failure types under which an operator finds them in the broker.
"""

from __future__ import annotations

from towline.errors import TowlineError

__all__ = [
    "InvalidResult",
    "JobTimeout",
    "NotSettled",
    "UnknownJobType",
    "WorkerChildDied",
    "WorkerProcessFailed",
    "WorkerStateError",
]


class UnknownJobType(TowlineError):
    """``no_handle_in`` is the class of the type, if there is one and it cannot be run.

    ``left_out`` says that the ``types`` of this worker do not name it.
    """

    def __init__(
        self, job_type: str, queue: str, *, no_handle_in: str = "", left_out: bool = False
    ) -> None:
        if left_out:
            what = f"the types that this worker runs do not include {job_type!r}: name it there"
        elif no_handle_in:
            what = f"{no_handle_in}, of job type {job_type!r}, has no handle(): give it one"
        else:
            what = (
                f"this worker knows no job type {job_type!r}: import the module that defines it "
                "in the worker"
            )
        super().__init__(f"{what}, or let another worker take queue {queue!r}")
        self.job_type = job_type
        self.queue = queue


class InvalidResult(TowlineError):
    pass


class JobTimeout(TowlineError, TimeoutError):
    """``timeout`` is in seconds."""

    def __init__(self, timeout: float) -> None:
        super().__init__(f"the attempt ran longer than the job's timeout of {timeout:g} s")
        self.timeout = timeout


class WorkerChildDied(TowlineError):
    """Of an attempt in a process pool: killed from outside, crashed, out of memory, or exited."""


class WorkerProcessFailed(TowlineError):
    """``error_type`` is the class name of the error that ended the process."""

    def __init__(self, worker_id: str, error_type: str, message: str) -> None:
        super().__init__(f"worker process {worker_id} ended with {error_type}: {message}")
        self.worker_id = worker_id
        self.error_type = error_type


class NotSettled(TowlineError):
    def __init__(self, job_id: str, why: str) -> None:
        super().__init__(
            f"the broker did not record the outcome of job {job_id}: {why}; "
            "the job runs again when its lease has run out"
        )
        self.job_id = job_id


class WorkerStateError(TowlineError):
    pass
