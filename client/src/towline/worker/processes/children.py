"""What the process pool knows about each of its children and about the job that it has."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from socket import socket

from towline.context import CancelReason
from towline.worker.attempt import Attempt
from towline.worker.leases import HeldLease
from towline.worker.processes.frames import (
    Burial,
    Kind,
    QueuedFrames,
    Run,
    pack_cancel,
    pack_prolonged,
)

KILL_GRACE = 1.0
"""Seconds that a handler has to end by itself once it was told to, before its process is killed."""

START_LIMIT = 30.0
"""Seconds that a child may take from being asked for to being ready."""

BURIAL_LIMIT = 10.0
"""Seconds for deciding about a job whose process is gone: its hooks and callbacks run then."""


@dataclass(eq=False)
class Task:
    """One attempt in the hands of the pool.

    death      what the process that ran it died of: it is to be decided about, not to be run
    settled    the child has said what becomes of it
    listening  ends the listening for its cancellation
    """

    attempt: Attempt
    listening: ExitStack
    death: Death | None = None
    settled: bool = False

    @property
    def held(self) -> HeldLease:
        return self.attempt.held

    @property
    def reason(self) -> CancelReason | None:
        return self.held.state.cancellation.reason

    def end(self) -> Attempt | None:
        """Returns the attempt that has the slot now."""
        self.listening.close()
        return self.attempt.end()


@dataclass(frozen=True)
class Death:
    """``reason`` is why the process was killed; None: it died by itself, as ``how`` says."""

    started_at: float
    reason: CancelReason | None
    how: str


@dataclass(eq=False)
class Child:
    """One child, as the worker sees it. All times are on the monotonic clock.

    ready     it has started, and takes jobs
    leaving   it was told to end
    kill_at   when it is to be killed if nothing happens before
    killed    it was: its end is only to be heard of
    given     how many jobs it was given; the child counts alike, to know of which it is told
    told      it knows that its handler is to end
    """

    number: int
    jobs: QueuedFrames
    control: QueuedFrames
    pid: int = 0
    ready: bool = False
    leaving: bool = False
    killed: bool = False
    done: int = 0
    given: int = 0
    task: Task | None = None
    given_at: float = 0.0
    told: bool = False
    kill_at: float | None = None
    lease_deadline: float | None = None

    @classmethod
    def starting(cls, number: int, jobs: socket, control: socket) -> Child:
        limit = time.monotonic() + START_LIMIT
        return cls(number, QueuedFrames(jobs), QueuedFrames(control), kill_at=limit)

    @property
    def idle(self) -> bool:
        return self.ready and self.task is None and not self.leaving

    @property
    def behind(self) -> bool:
        """It has not been sent all that it was told."""
        return not self.leaving and (self.jobs.unsent or self.control.unsent)

    def give(self, task: Task) -> None:
        """Hand a job over. The child must be idle."""
        self.task, self.told, self.given_at = task, False, time.monotonic()
        self.given += 1
        lease, state = task.held.lease, task.held.state
        self.lease_deadline = state.lease_deadline
        if task.death is None:
            self.kill_at = None
            self.jobs.send(Kind.RUN, Run(lease, state.lease_deadline or 0.0).pack())
        else:
            self.kill_at = self.given_at + BURIAL_LIMIT
            burial = Burial(lease, task.death.started_at, task.death.reason, task.death.how)
            self.jobs.send(Kind.BURY, burial.pack())

    def begun(self) -> None:
        """The handler starts now, and its job has a timeout; the child itself tells it of that."""
        if self.task is None:
            return
        timeout = self.task.held.context.timeout or 0.0
        now = time.monotonic()
        self.task.held.state.timeout_deadline = now + timeout
        self.kill_by(now + timeout + KILL_GRACE)

    def kill_by(self, when: float) -> None:
        self.kill_at = when if self.kill_at is None else min(self.kill_at, when)

    def tell(self) -> None:
        """Pass on what became known about the job since it was given: its end, its lease."""
        task = self.task
        if task is None or task.death is not None:
            return
        if task.reason is not None and not self.told:
            self.told = True
            self.control.send(Kind.CANCEL, pack_cancel(self.given, task.reason))
            if not task.settled:
                self.kill_by(time.monotonic() + KILL_GRACE)
        deadline = task.held.state.lease_deadline
        if deadline is not None and deadline != self.lease_deadline:
            self.lease_deadline = deadline
            self.control.send(Kind.PROLONGED, pack_prolonged(self.given, deadline))

    def leave(self) -> None:
        """Have it end: it does when its sockets are closed."""
        self.leaving = True
        self.kill_at = time.monotonic() + KILL_GRACE
        self.jobs.close()
        self.control.close()


def how_it_ended(code: int) -> str:
    """``code``: the exit code, or minus the number of a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
