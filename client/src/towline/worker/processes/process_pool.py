"""Handlers in child processes, one job at a time in each; what does not end is killed."""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from towline.context import CancelReason
from towline.v1 import job_pb2
from towline.v1.queue_service_pb2 import Ack, Nack
from towline.worker import outcome
from towline.worker.attempt import Attempt
from towline.worker.errors import JobTimeout, WorkerChildDied
from towline.worker.pool import Pool
from towline.worker.processes.children import (
    KILL_GRACE,
    Child,
    Death,
    Task,
    how_it_ended,
)
from towline.worker.processes.frames import Kind, unpack_done
from towline.worker.processes.limits import ChildLimits
from towline.worker.processes.template import Ended, Forked, NotForked, Report, Template

logger = logging.getLogger("towline.worker")

SYNC_INTERVAL = 0.25
"""Seconds until a child hears at the latest that the lease of its job was prolonged."""

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds to the next child when one died before it was ready; doubled with each that follows."""

MAX_FAILED_STARTS = 10
"""Children in a row that were never ready, after which a worker without any other gives up: half a
minute."""


class ProcessPool(Pool):
    """Up to ``concurrency`` children, made when they are needed and then kept.

    One thread hears what they tell and sees to what is due. A handler that is to end, because its
    timeout struck, its lease was lost, its job cancelled or the worker stops, is told so, and its
    child is killed KILL_GRACE seconds later. The lease is kept until the child is gone.

    What becomes of a job whose child is gone is decided by its class, as for every other failure,
    and therefore in another child. ``on_crash`` is called when no children can be had any more.
    """

    def __init__(
        self,
        concurrency: int,
        template: Template,
        limits: ChildLimits,
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._concurrency = concurrency
        self._template = template
        self._limits = limits
        self._on_crash = on_crash
        self._lock = threading.Lock()  # over all that follows
        self._waiting: deque[Task] = deque()
        self._children: dict[int, Child] = {}
        self._idle: list[Child] = []
        self._failed_starts = 0
        self._fork_after = 0.0
        self._sync_at = 0.0
        self._closing = False
        self._gone = False  # the template, and every child with it
        self._error: BaseException | None = None
        self._cancelled = False
        self._woken, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_wake)
        self._selector.register(template, selectors.EVENT_READ, self._on_template)
        self._thread = threading.Thread(target=self._run, name="towline-processes", daemon=True)

    def start(self) -> None:
        # Children come with the work.
        self._thread.start()

    def submit(self, attempts: Sequence[Attempt]) -> None:
        with self._lock:
            for attempt in attempts:
                self._take(attempt)
            self._dispatch()

    def _take(self, attempt: Attempt) -> None:
        listening = ExitStack()
        listening.enter_context(attempt.held.state.cancellation.listening(self._on_cancel))
        task = Task(attempt, listening)
        if self._gone:
            self._end_unrun(task)
        else:
            self._waiting.append(task)

    def _end(self, task: Task) -> None:
        """Give its slot to the job that has it next, if there is one."""
        if (following := task.end()) is not None:
            self._take(following)

    def close(self, timeout: float) -> None:
        with self._lock:
            self._closing = True
        self._wake()
        self._thread.join(timeout)

    def _on_cancel(self) -> None:
        # Called with the lock of the cancellation held: all else is for the thread.
        self._cancelled = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # it will wake anyway, or is closed
            self._waker.send(b"\0")

    # The thread

    def _run(self) -> None:
        try:
            while self._serve_once():
                pass
        except Exception as error:
            self._error = self._error or error
        with self._lock:
            self._let_go()
        if self._error is not None:
            self._on_crash(self._error)

    def _serve_once(self) -> bool:
        with self._lock:
            if self._closing:
                self._wind_up()
            if self._gone or (self._closing and not self._children):
                return False
            pause = self._pause()
        events = self._selector.select(pause)
        with self._lock:
            for key, _ in events:
                key.data()
            self._look_after()
            self._dispatch()
        return True

    def _pause(self) -> float | None:
        """Seconds until something is due, None if nothing is."""
        due = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        if self._children:
            due.append(self._sync_at)
        if self._waiting and self._fork_after > time.monotonic():
            due.append(self._fork_after)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _look_after(self) -> None:
        now = time.monotonic()
        if self._cancelled or now >= self._sync_at:
            self._cancelled = False
            self._sync_at = now + SYNC_INTERVAL
            for child in self._children.values():
                child.tell()
            for task in [task for task in self._waiting if task.reason and not task.death]:
                self._waiting.remove(task)
                self._end_unrun(task)
        for child in list(self._children.values()):
            if child.kill_at is not None and now >= child.kill_at:
                self._kill(child)
            elif child.behind:
                self._flush(child)

    def _kill(self, child: Child) -> None:
        child.kill_at = None
        child.killed = True
        if child.task is not None and not child.task.settled:
            held = child.task.held
            if held.context.remaining == 0:
                held.state.cancellation.cancel(CancelReason.TIMEOUT)
            logger.warning("%s does not end: its process %d is killed", held, child.pid)
        self._template.kill_child(child.number)

    # Giving work

    def _dispatch(self) -> None:
        while self._waiting and self._idle:
            child = self._idle.pop()
            if child.jobs.read() is None:  # dead, as will be heard
                continue
            child.give(self._waiting.popleft())
            if child.behind:
                self._flush(child)
        starting = sum(not child.ready for child in self._children.values())
        if starting < len(self._waiting):
            self._fork(len(self._waiting) - starting)

    def _fork(self, wanted: int) -> None:
        if self._closing or time.monotonic() < self._fork_after:
            return
        there = sum(not child.leaving for child in self._children.values())
        for _ in range(min(wanted, self._concurrency - there)):
            try:
                number, jobs, control = self._template.fork_child()
            except OSError as error:
                self._start_failed(str(error))
                return
            child = Child.starting(number, jobs, control)
            self._children[number] = child
            self._selector.register(jobs, selectors.EVENT_READ, partial(self._read, child))
        self._wake()

    def _flush(self, child: Child) -> None:
        """Send what is left, and hear of it when there is room for more."""
        child.jobs.flush()
        child.control.flush()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.jobs.unsent else 0)
        key = self._selector.get_map().get(child.jobs.link)
        if key is not None and key.events != wanted:
            self._selector.modify(child.jobs.link, wanted, key.data)

    # Hearing

    def _on_wake(self) -> None:
        self._woken.recv(4096)

    def _on_template(self) -> None:
        reports = self._template.read()
        if reports is None:
            self._gone = True
            self._error = WorkerChildDied("the process that forks those for jobs is gone")
            return
        for report in reports:
            self._on_report(report)

    def _on_report(self, report: Report) -> None:
        child = self._children.get(report.number)
        if child is None:  # of an earlier run of this worker
            return
        match report:
            case Forked(pid=pid):
                child.pid = pid
            case NotForked(error=error):
                self._forget(child)
                self._start_failed(str(error))
            case Ended(code=code):
                self._on_end(child, code)

    def _read(self, child: Child) -> None:
        frames = None if child.leaving else child.jobs.read()
        for kind, body in frames or ():
            self._on_frame(child, kind, body)
        if frames is None and not child.leaving:
            # The template says how it ended; until then the socket would be readable for ever.
            self._unregister(child)
            child.kill_by(time.monotonic() + KILL_GRACE)

    def _on_frame(self, child: Child, kind: Kind, body: bytes) -> None:
        task = child.task
        if kind is Kind.READY:
            child.ready, child.kill_at = True, None
            self._failed_starts = 0
            self._idle.append(child)
        elif task is None:
            return
        elif kind is Kind.BEGUN:
            child.begun()
        elif kind is Kind.REPORT:
            progress = job_pb2.Progress.FromString(body)
            task.held.state.reports.report(progress.fraction, progress.message, progress.checkpoint)
        elif kind is Kind.ACK or kind is Kind.NACK:
            task.settled, child.kill_at = True, None
            message = Ack.FromString(body) if kind is Kind.ACK else Nack.FromString(body)
            task.attempt.settle(message)
        elif kind is Kind.DONE:
            self._on_done(child, task, unpack_done(body))

    def _on_done(self, child: Child, task: Task, resident: int) -> None:
        child.task, child.kill_at = None, None
        child.done += 1
        self._end(task)
        limits = self._limits
        if limits.max_memory is not None and resident > limits.max_memory:
            logger.info("process %d holds %d MB: replaced", child.pid, resident // 10**6)
        elif limits.max_jobs is None or child.done < limits.max_jobs:
            self._idle.append(child)
            return
        self._leave(child)

    def _leave(self, child: Child) -> None:
        self._unregister(child)
        child.leave()

    # The end of a child

    def _on_end(self, child: Child, code: int) -> None:
        """It is dead. What it has told before still counts."""
        for kind, body in child.jobs.read_rest():
            self._on_frame(child, kind, body)
        self._forget(child)
        how = how_it_ended(code)
        task = child.task
        if not child.ready:
            self._start_failed(f"it {how}")
        elif task is None:
            if not child.leaving:
                logger.warning("process %d, which had no job, %s", child.pid, how)
        elif task.settled:
            logger.warning("process %d %s after its job was settled", child.pid, how)
            self._end(task)
        elif task.death is not None or self._closing or task.reason is CancelReason.STOPPING:
            self._end_unrun(task)
        elif child.jobs.unread:  # it died before it knew of this job, which is not to blame
            logger.warning("process %d %s before it had a job", child.pid, how)
            self._waiting.appendleft(task)
        else:
            if task.reason is None:
                logger.warning("%s: its process %d %s", task.held, child.pid, how)
            why = f"the process that ran the job {how}"
            task.death = Death(child.given_at, task.reason, why)
            self._waiting.appendleft(task)

    def _end_unrun(self, task: Task) -> None:
        """End a job for which there is no child any more, without asking its class."""
        token, death = task.held.token, task.death
        reason = task.reason if death is None else death.reason
        if reason is CancelReason.TIMEOUT:
            failure = outcome.failure_of(JobTimeout(task.held.context.timeout or 0.0))
            task.attempt.settle(outcome.retry_by_policy(token, failure))
        elif reason is None and death is not None:
            failure = outcome.failure_of(WorkerChildDied(death.how))
            task.attempt.settle(outcome.retry_by_policy(token, failure))
        elif reason in (None, CancelReason.STOPPING):
            task.attempt.settle(outcome.release(token))
        self._end(task)

    def _start_failed(self, how: str) -> None:
        self._failed_starts += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._failed_starts - 1))
        self._fork_after = time.monotonic() + pause
        logger.error("a process for jobs could not be started: %s", how)
        some_work = any(child.ready for child in self._children.values())
        if self._failed_starts >= MAX_FAILED_STARTS and not some_work:
            died = f"{self._failed_starts} processes for jobs in a row could not be started: {how}"
            self._gone = True
            self._error = WorkerChildDied(died)

    def _unregister(self, child: Child) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it was before
            self._selector.unregister(child.jobs.link)

    def _forget(self, child: Child) -> None:
        del self._children[child.number]
        if child in self._idle:
            self._idle.remove(child)
        self._unregister(child)
        child.jobs.close()
        child.control.close()

    # The end of the pool

    def _wind_up(self) -> None:
        for child in list(self._children.values()):
            if child.idle or (not child.ready and not child.leaving):
                self._leave(child)
            elif child.task is not None and not child.killed:
                self._kill(child)
        while self._waiting:
            self._end_unrun(self._waiting.popleft())

    def _let_go(self) -> None:
        """Nothing is heard or seen to any more; a child whose sockets are closed ends."""
        self._gone = True
        while self._waiting:
            self._end_unrun(self._waiting.popleft())
        for child in list(self._children.values()):
            self._forget(child)
            if (task := child.task) is None:
                continue
            if task.death is None and not self._closing:
                task.death = Death(child.given_at, task.reason, str(self._error))
            self._end_unrun(task)
        self._selector.close()
        self._woken.close()
        self._waker.close()
