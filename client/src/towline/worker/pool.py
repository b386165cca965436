"""Where handlers run: the interface of pools, and what pools share.

A pool is told of at most as many attempts as the worker has slots, so it keeps no line of its own:
when one has ended, ``Attempt.end`` says which has its slot now.
"""

from __future__ import annotations

import abc
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from towline.calls import Result
from towline.worker.attempt import Attempt
from towline.worker.coroutines import until_ended

MOST_THREADS = 2
"""Per slot: one whose handler was abandoned has another beside it."""


class Pool(abc.ABC):
    """Runs attempts. ``start`` once, then ``submit`` from any thread, then ``close`` once."""

    @abc.abstractmethod
    def start(self) -> None: ...

    @abc.abstractmethod
    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Run them as soon as possible; returns at once.

        The pool calls ``begin`` and, if that says so, ``call`` and ``conclude``; and ``end`` in any
        case, once nothing of the handler runs any more. The attempt that ``end`` returns is run in
        the same way.
        """

    @abc.abstractmethod
    def close(self, timeout: float) -> None:
        """Let go of threads and loops, waiting at most ``timeout`` seconds for them to end.

        A handler that still runs then can be left behind: it does not keep the process alive.
        """

    def blocked_for(self) -> float:
        """Seconds for which nothing could begin in this pool, as far as it was asked before."""
        return 0.0


class DaemonThreads:
    """Up to ``size`` threads, made when needed and then kept, that do not keep the process alive.

    concurrent.futures joins its threads when the interpreter ends, so that one handler that hangs
    would keep a worker from ever exiting.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], None]) -> None:
        """Have ``work``, which must not raise, done by one of the threads."""
        self._work.put(work)
        with self._lock:
            self._unfinished += 1
            if len(self._threads) < min(self._size, self._unfinished):
                name = f"{self._name}-{len(self._threads)}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # it holds the job, which need not live until the next one
            with self._lock:
                self._unfinished -= 1

    def close(self) -> None:
        """Idle threads end; each other one ends when its work is done."""
        for _ in self._threads:
            self._work.put(None)


async def run_coroutine(attempt: Attempt, coroutine: Coroutine[Any, Any, Any]) -> Result:
    """Await what a handler returned until it has ended; it is cancelled when the attempt is."""
    return await until_ended(coroutine, attempt.context.state.cancellation)
