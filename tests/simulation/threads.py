"""Threads that run one at a time, and stop only where they pause or wait."""

import queue
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import greenlet


class Timers(Protocol):
    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> object: ...

    def a_moment(self) -> float: ...


class Thread:
    """Belongs to the process that started it, and is resumed only while that lives."""

    def __init__(self, loop: Timers, work: Callable[[], None]) -> None:
        self._loop = loop
        self._greenlet = greenlet.greenlet(self._run)
        self._greenlet.gr_context = copy_context()
        _threads[self._greenlet] = self
        self._work = work
        self._joining: list[Thread] = []
        self.ended = False

    def _run(self) -> None:
        self._work()
        self.ended = True
        for thread in self._joining:
            thread.resume_after(self._loop.a_moment())

    def resume_after(self, delay: float) -> None:
        self._loop.call_later(delay, self._greenlet.switch)

    def pause(self, seconds: float) -> None:
        """Only on this thread."""
        self.resume_after(seconds)
        self.wait()

    def wait(self) -> None:
        """Until somebody resumes it. Only on this thread."""
        parent = self._greenlet.parent
        assert parent is not None
        parent.switch()

    def join(self) -> None:
        """From another thread."""
        caller = current()
        assert caller is not None, "only a thread may wait for another"
        while not self.ended:
            self._joining.append(caller)
            caller.wait()


def current() -> Thread | None:
    """None: this is the event loop."""
    return _threads.get(greenlet.getcurrent())


_threads: WeakKeyDictionary[greenlet.greenlet, Thread] = WeakKeyDictionary()


class Waiting:
    """A queue on which a thread waits for the event loop."""

    def __init__(self, loop: Timers) -> None:
        self._loop = loop
        self._items: deque[Any] = deque()
        self._waiter: Thread | None = None

    def put(self, item: Any) -> None:
        self._items.append(item)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.resume_after(self._loop.a_moment())

    def get(self) -> Any:
        while not self._items:
            self._waiter = current()
            assert self._waiter is not None
            self._waiter.wait()
        return self._items.popleft()

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()
