"""The worker: takes jobs from queues and runs their handlers."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

from towline.channel import Connection
from towline.client import Client
from towline.durations import Seconds
from towline.errors import ConfigurationError
from towline.jobs import Job, JobFunction
from towline.middleware.handling import HandlerMiddleware
from towline.middleware.interface import WorkerMiddleware
from towline.registry import Registry, default_registry
from towline.serializers import Serializer, Serializers
from towline.worker.callbacks import (
    CallbackDecorators,
    Callbacks,
    Errored,
    JobCompleted,
    JobErrored,
    JobStarted,
)
from towline.worker.errors import WorkerStateError
from towline.worker.options import PREFETCH, PoolName, Queues, make_options, seconds
from towline.worker.processes import child, forking
from towline.worker.processes.limits import ChildLimits
from towline.worker.processes.supervisor import Supervisor
from towline.worker.processes.template import Template
from towline.worker.session import WIND_UP, Session
from towline.worker.signals import HANGUP, StopSignals
from towline.worker.stats import Stats, WorkerStats
from towline.worker.stop_reason import StopReason

logger = logging.getLogger("towline.worker")


class Worker(CallbackDecorators):
    """Takes jobs from queues and runs them, up to ``concurrency`` at a time.

        Worker(client, queues=["emails"]).run()              # until SIGTERM or Ctrl-C
        with Worker("127.0.0.1:7480", ["emails"]): ...       # beside other things

    broker         a Client, whose address and credentials are used, or an address (None: as for
                   Client)
    queues         names, served in strict order; or names with weights, a queue coming first in
                   proportion to its weight
    pool           "thread", "async" or "process": where handlers run. Each runs sync and async
                   handlers. See docs/workers.md for which to choose
    processes      so many workers side by side, each in a process of its own with ``concurrency``
                   slots; one that dies is replaced
    lease          seconds after which another worker may have the job of one that vanished; by
                   default what the operator has set for the job's queue, or else 30. Heartbeats
                   prolong it for as long as the handler runs
    registry       the types it can run; by default those of all modules that are imported
    serializers    what it reads payloads by, besides JSON, protobuf, and MessagePack if installed
    worker_id      its name at the broker; by default made of host, process and a random part
    prefetch       hold at most so many jobs that wait here for a slot, 0 to 1000. It holds as many
                   as begin within 25 ms, by how long jobs took: none, when they last longer
    max_jobs       take so many jobs, then end. A job of unknown type does not count. Of several
                   processes: each, and the worker ends with the last
    max_time       stop gracefully after so many seconds
    max_jobs_per_child, max_memory_per_child
                   replace a child of a process pool, or else one of several processes, after so
                   many jobs, or when it holds more memory: bytes, or a string such as "200MB"
    drain_timeout  seconds that running jobs have to end once the worker is to stop
    guardian       whether a small process beside this one keeps the leases while a handler lets
                   nothing else here run: see towline.worker.guardian
    wait           seconds that the broker holds a call for jobs while there are none
    sleep          seconds from an answer without jobs to the next call
    stop_when_empty
                   end once no job is ready in its queues and none that it ran is left; jobs that
                   are delayed, or wait for another attempt, are not waited for
    types          run these only, by name or class. Others are given back for another worker of the
                   queue, which costs them some seconds each time: queues part work better
    max_attempts   dead-letter a job that fails here at this attempt or a later one, though its own
                   policy would try again. It cannot get more attempts than its policy gives
    default_timeout
                   seconds for an attempt of a job whose class and dispatch name no timeout
    max_memory     stop gracefully when this process holds more: bytes, or a string such as "500MB"
    health_file    a file that is kept young while the worker is alive; health_port: a port on
                   health_host for GET /livez and /readyz. See docs/workers.md

    A job's timeout cancels an async handler. A plain function cannot be stopped from outside: its
    ``current_job().cancelled`` becomes true, its lease is kept until it has ended, so that no
    second worker runs it meanwhile, and then the attempt counts as failed, whatever it returned.
    In a process pool either is killed if it has not ended a second later.
    ``towline.worker.attempt`` lists how each end of a handler is told to the broker.

    ``middleware`` runs around each handler, the first being the outermost: see towline.middleware.

    Callbacks are plain functions, called where the handler runs, which may be another process;
    what they raise is logged and goes to ``on_error``. A completed job's callback may come before
    the broker has recorded it. What goes wrong outside of handlers is told to ``on_error`` in a
    thread of its own, one thing after another.

        on_job_start(job)
        on_job_complete(job, result)
        on_job_error(job, error, traceback)    traceback as text; empty if the lease was lost
        on_error(error)                        everything else: a broker that cannot be reached
                                               (once per outage), unknown types, payloads that
                                               cannot be decoded, outcomes that came too late

    The constructor raises ConfigurationError. What only the broker can judge, such as a lease or a
    wait longer than its limits (by default 12 hours and 60 seconds), ends the run with
    InvalidArgument.
    """

    def __init__(
        self,
        broker: Client | str | None = None,
        queues: Queues = ("default",),
        *,
        concurrency: int = 8,
        pool: PoolName = "thread",
        prefetch: int = PREFETCH,
        lease: Seconds | None = None,
        registry: Registry | None = None,
        serializers: Iterable[Serializer] = (),
        worker_id: str | None = None,
        max_jobs: int | None = None,
        max_time: Seconds | None = None,
        drain_timeout: Seconds = 30,
        guardian: bool = True,
        wait: Seconds = 20,
        sleep: Seconds = 0,
        stop_when_empty: bool = False,
        types: Iterable[str | type[Job] | JobFunction[..., Any]] | None = None,
        max_attempts: int | None = None,
        default_timeout: Seconds | None = None,
        max_memory: int | str | None = None,
        health_file: str | os.PathLike[str] | None = None,
        health_port: int | None = None,
        health_host: str = "127.0.0.1",
        processes: int = 1,
        max_jobs_per_child: int | None = None,
        max_memory_per_child: int | str | None = None,
        middleware: Iterable[WorkerMiddleware] = (),
        on_job_start: JobStarted | None = None,
        on_job_complete: JobCompleted | None = None,
        on_job_error: JobErrored | None = None,
        on_error: Errored | None = None,
    ) -> None:
        self._options = make_options(
            queues=queues,
            concurrency=concurrency,
            pool=pool,
            lease=lease,
            worker_id=worker_id,
            max_jobs=max_jobs,
            max_time=max_time,
            drain_timeout=drain_timeout,
            guardian=guardian,
            wait=wait,
            sleep=sleep,
            stop_when_empty=stop_when_empty,
            types=types,
            max_attempts=max_attempts,
            default_timeout=default_timeout,
            max_memory=max_memory,
            health_file=health_file,
            health_port=health_port,
            health_host=health_host,
            processes=processes,
            max_jobs_per_child=max_jobs_per_child,
            max_memory_per_child=max_memory_per_child,
            prefetch=prefetch,
        )
        self._connection = _connection(broker)
        if self._connection.in_this_process and processes > 1:
            raise ConfigurationError(
                "processes: the broker of memory:// lives in this process and no other; use "
                "processes=1, or a broker of its own (towline-broker serve --store memory:)"
            )
        self._registry = _registry(registry).reading(Serializers(serializers))
        self._middleware = HandlerMiddleware(middleware, has_loop=pool == "async")
        self._callbacks = Callbacks(on_job_start, on_job_complete, on_job_error, on_error)
        self._stats = Stats()
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._template: Template | None = None
        self._made_in = os.getpid()

    @property
    def worker_id(self) -> str:
        return self._options.worker_id

    @property
    def stats(self) -> WorkerStats:
        """Counts over all runs of this worker, as the broker has recorded them.

        Of several processes those are counted that have ended, and did not die.
        """
        return self._stats.snapshot()

    @property
    def stop_reason(self) -> StopReason | None:
        """Why it stops or has stopped; None before, and for several processes."""
        session = self._session
        return None if session is None else session.stop_reason

    @property
    def health_port(self) -> int | None:
        """The port at which its health is told, while it runs; of use if any free one was asked
        for, by 0."""
        session = self._session
        return None if session is None else session.health_reports.port

    @property
    def running(self) -> bool:
        session = self._session
        return session is not None and not session.wait(0)

    def prepare(self) -> None:
        """Do now what can only be done before this process opens a channel to a broker.

        That is needed only by a program with a process pool that uses a Client before ``run``,
        ``run_once`` or ``start``, which do it themselves. The handlers run with what is imported
        now. Raises ConfigurationError if it is too late, or processes cannot be forked here.
        """
        if self._options.pool != "process" or self._template is not None:
            return
        forking.check('pool: "process"', "call worker.prepare() before anything connects")
        work = child.Work(
            self._registry, self._callbacks, self._middleware, self._options.child_limits
        )
        self._template = Template(partial(child.serve, work))
        weakref.finalize(self, self._template.close)

    def run(self) -> None:
        """Work until told to stop; returns when everything is settled.

        In the main thread the first SIGTERM or SIGINT stops gracefully: no more jobs are taken,
        those that run have ``drain_timeout`` seconds to end, and the rest is cancelled and given
        back. The second stops at once in the same way. An outage of the broker is waited out;
        raises what makes working impossible, such as Unauthenticated, and WorkerStateError when the
        worker runs already.

        Several ``processes`` are looked after by this one, which has to be the main thread of a
        program that opens no channel itself. Each of them is stopped in the same way. Raises
        WorkerProcessFailed when one of them cannot work.
        """
        if self._options.processes > 1:
            self._run_processes()
        else:
            self._run(once=False)

    def run_once(self) -> int:
        """Take one job if there is one, run it, and return how many were run: 0 or 1.

        Signals and errors as for ``run``, but a broker that cannot be reached is an error too.
        """
        return self._run(once=True)

    def start(self) -> None:
        """Work in background threads until ``stop``.

        Raises WorkerStateError if it runs already, or is to have several processes.
        """
        if self._options.processes > 1:
            raise WorkerStateError(
                "a worker with several processes cannot work in the background: use run(), in a "
                'program of its own, or pool="process"'
            )
        self._begin(once=False).start()

    def stop(self, timeout: Seconds | None = None, *, wait: bool = True) -> None:
        """Stop gracefully: jobs that run have ``timeout`` seconds to end (None: drain_timeout).

        Returns when all is over and settled, or at once if ``wait`` is false, which is the way to
        stop the worker from inside a handler, though not from one in a process pool. Raises what
        ended the worker before, if anything did, and WorkerStateError where it cannot be told.
        """
        if self._session is None:
            if os.getpid() != self._made_in or self._options.processes > 1:
                raise WorkerStateError(
                    "the worker cannot be told to stop from here: send SIGTERM to its process"
                )
            return
        self._session.request_stop(None if timeout is None else seconds(timeout, "timeout"))
        if wait:
            self.join()

    def join(self, timeout: Seconds | None = None) -> bool:
        """Wait for the end; False when it has not come after ``timeout`` seconds.

        Raises what ended the worker, unless it was told to stop.
        """
        session = self._session
        if session is None:
            raise WorkerStateError("the worker was never started")
        ended = session.wait(None if timeout is None else seconds(timeout, "timeout"))
        if ended and session.error is not None:
            raise session.error
        return ended

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _begin(self, *, once: bool, on_done: Callable[[], None] = lambda: None) -> Session:
        with self._lock:
            if self.running:
                raise WorkerStateError("the worker runs already")
            self.prepare()
            session = Session(
                self._options,
                self._registry,
                self._callbacks,
                self._middleware,
                self._connection,
                self._stats,
                self._template,
                once=once,
                on_done=on_done,
            )
            self._session = session
            return session

    def _run_processes(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise WorkerStateError("a worker with several processes runs in the main thread only")
        forking.check("processes", "run the worker in a program of its own, or before it connects")
        Supervisor(self._options, self._begin_member, self._stats).run()

    def _begin_member(
        self, worker_id: str, limits: ChildLimits, on_done: Callable[[], None]
    ) -> Session:
        """In one of several processes: what is changed here is this process's own."""
        self._options = dataclasses.replace(
            self._options,
            worker_id=worker_id,
            processes=1,
            max_time=None,
            max_jobs=limits.max_jobs or self._options.max_jobs,
            max_memory=limits.max_memory,
        )
        self._stats = Stats()
        self._template = None
        return self._begin(once=False, on_done=on_done)

    def _run(self, *, once: bool) -> int:
        with StopSignals() as signals:
            session = self._begin(once=once, on_done=signals.done)
            session.start()
            try:
                _wait_for_end(signals, session)
            finally:  # also when the handler of some other signal raises in this thread
                if not session.wait(0):
                    session.halt()
                    session.wait(2 * WIND_UP)
        if session.error is not None:
            raise session.error
        return session.taken


def _wait_for_end(signals: StopSignals, session: Session) -> None:
    signalled = False
    while (number := signals.wait()) is not None:
        if signalled and number is not HANGUP:
            logger.warning("%s again: stopping at once", number.name)
            session.halt()
        elif not signalled:
            logger.info("%s: stopping when the jobs that run are done", number.name)
            session.request_stop()
        signalled = True


def _connection(broker: object) -> Connection:
    if isinstance(broker, Client):
        return broker.connection
    if broker is None or isinstance(broker, str):
        return Connection.to(broker)
    raise ConfigurationError(f"broker: expected a Client or an address, got {broker!r}")


def _registry(registry: object) -> Registry:
    if registry is None:
        return default_registry
    if isinstance(registry, Registry):
        return registry
    raise ConfigurationError(f"registry: expected a Registry, got {registry!r}")
