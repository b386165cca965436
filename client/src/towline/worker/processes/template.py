"""The process that forks children, and the worker's handle of it.

The two speak over one socket, in records of fixed size. The worker asks for a child and sends the
child's ends of its two sockets along, or asks for a child to be killed; the template tells when a
child was forked, could not be, or has ended. Since it is the parent of the children, it knows which
process ids are still theirs.

A template whose worker is gone, however that ended, kills its children and ends.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import gc
import os
import select
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TypeAlias

from towline.worker.processes.forking import die_with, fork_process

Serve: TypeAlias = Callable[[socket.socket, socket.socket], None]
"""What a child does, with its ends of the sockets for jobs and for control."""

_RECORD = struct.Struct("!BIi")


class _Word(enum.IntEnum):
    FORK = 1
    KILL = 2
    FORKED = 3
    NOT_FORKED = 4
    ENDED = 5


@dataclass(frozen=True)
class Forked:
    number: int
    pid: int


@dataclass(frozen=True)
class NotForked:
    number: int
    error: OSError


@dataclass(frozen=True)
class Ended:
    """``code`` is the exit code; of a process that a signal killed, minus the signal's number."""

    number: int
    code: int


Report: TypeAlias = Forked | NotForked | Ended


class Template:
    """Forked by its constructor, which raises OSError. For one thread at a time."""

    def __init__(self, serve: Serve) -> None:
        self._link, theirs = socket.socketpair()
        self._last_number = 0
        self._unread = bytearray()

        def main() -> int:
            self._link.close()
            _TemplateProcess(theirs, serve).run()
            return 0

        self.pid = fork_process(main)
        theirs.close()

    def fileno(self) -> int:
        return self._link.fileno()

    def fork_child(self) -> tuple[int, socket.socket, socket.socket]:
        """Ask for a child: returns its number and the worker's ends of its sockets.

        Raises OSError when the template is gone, or this process may open no more sockets.
        """
        self._last_number += 1
        with contextlib.ExitStack() as on_failure:
            jobs, their_jobs = map(on_failure.enter_context, socket.socketpair())
            control, their_control = map(on_failure.enter_context, socket.socketpair())
            record = _RECORD.pack(_Word.FORK, self._last_number, 0)
            descriptors = [their_jobs.fileno(), their_control.fileno()]
            socket.send_fds(self._link, [record], descriptors)
            on_failure.pop_all()
        their_jobs.close()
        their_control.close()
        return self._last_number, jobs, control

    def kill_child(self, number: int) -> None:
        """Ask for a child to be killed, and whatever it has started in its process group."""
        with contextlib.suppress(OSError):  # the template is gone, and has taken it along
            self._link.sendall(_RECORD.pack(_Word.KILL, number, 0))

    def read(self) -> list[Report] | None:
        """Wait for what the template tells next; None when it is gone."""
        try:
            data = self._link.recv(64 * _RECORD.size)
        except ConnectionError:
            data = b""
        if not data:
            return None
        self._unread += data
        whole = len(self._unread) // _RECORD.size * _RECORD.size
        reports = [_report(*fields) for fields in _RECORD.iter_unpack(self._unread[:whole])]
        del self._unread[:whole]
        return reports

    def close(self) -> None:
        """End the template, which kills what children there are; waits for its end."""
        self._link.close()
        with contextlib.suppress(ChildProcessError):  # somebody else waits for every child
            os.waitpid(self.pid, 0)


def _report(word: int, number: int, value: int) -> Report:
    if word == _Word.FORKED:
        return Forked(number, value)
    if word == _Word.NOT_FORKED:
        return NotForked(number, OSError(value, os.strerror(value)))
    return Ended(number, value)


class _TemplateProcess:
    """The other end, in the process that forks."""

    def __init__(self, link: socket.socket, serve: Serve) -> None:
        self._link = link
        self._serve = serve
        self._children: dict[int, int] = {}  # number by process id

    def run(self) -> None:
        # What is there now is shared with every child for as long as neither writes to it: the
        # garbage collector, which would write to all of it, shall leave it alone.
        gc.collect()
        gc.freeze()
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _take_notice)
        try:
            while True:
                ready, _, _ = select.select([self._link, woken], [], [])
                if woken in ready:
                    woken.recv(4096)
                    self._reap()
                if self._link in ready and not self._obey():
                    return
        except ConnectionError:  # the worker is gone
            return
        finally:
            for pid in self._children:
                _kill(pid)

    def _obey(self) -> bool:
        """Do what the worker asks next; False when it is gone."""
        record, descriptors, _, _ = socket.recv_fds(self._link, _RECORD.size, 2)
        if not record:
            return False
        word, number, _ = _RECORD.unpack(record)
        if word == _Word.FORK:
            jobs, control = (socket.socket(fileno=descriptor) for descriptor in descriptors)
            with jobs, control:
                self._fork(number, jobs, control)
        else:
            for pid, each in self._children.items():
                if each == number:
                    _kill(pid)
        return True

    def _fork(self, number: int, jobs: socket.socket, control: socket.socket) -> None:
        template = os.getpid()

        def main() -> int:
            self._link.close()
            die_with(template)
            self._serve(jobs, control)
            return 0

        try:
            pid = fork_process(main)
        except OSError as error:
            self._tell(_Word.NOT_FORKED, number, error.errno or errno.EAGAIN)
            return
        self._children[pid] = number
        self._tell(_Word.FORKED, number, pid)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._children.pop(pid, None)
            if number is None:  # started by what was imported, before the fork
                continue
            code = os.waitstatus_to_exitcode(status)
            if code != 0:
                _kill_group(pid)
            self._tell(_Word.ENDED, number, code)

    def _tell(self, word: _Word, number: int, value: int) -> None:
        self._link.sendall(_RECORD.pack(word, number, value))


def _kill(pid: int) -> None:
    """Kill a child that has not been waited for."""
    _kill_group(pid)
    os.kill(pid, signal.SIGKILL)  # also one that has not got so far as to make its group


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _take_notice(number: int, frame: FrameType | None) -> None:
    """A handler there must be, for the interpreter to write to the wakeup socket."""
