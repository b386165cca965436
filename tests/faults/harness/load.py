"""Clients under load, in threads and in processes that can be killed, and the verdict on all."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from tests.faults.harness.assumptions import STRICT, Assumptions
from tests.faults.harness.checker import Verdict, judge
from tests.faults.harness.closing import drained, final_state
from tests.faults.harness.diary import Diary
from tests.faults.harness.habits import MIXED, Habits
from tests.faults.harness.history import (
    Call,
    History,
    Settled,
    final_from_json,
    final_to_json,
    from_line,
    read_diary,
)
from tests.faults.harness.link import Link
from tests.faults.harness.operator import Operator
from tests.faults.harness.producer import Producer
from tests.faults.harness.worker import Worker
from tests.faults.harness.worker_process import CALM

JOIN_SECONDS = 90.0
#: The file that says how it ended.
FINAL = "final.json"
#: How a worker process may have ended that did not fail: it was stopped, or killed by a test.
_ENDS = (None, 0, -signal.SIGTERM, -signal.SIGKILL)


class Load:
    """As a context manager it starts all clients, and stops those that are left at the end.

    ``addresses``: of the brokers, or of proxies before them; ``admin_addresses``: where the end is
    asked for, if not there too. What clients see goes to files in ``folder``, which is made.
    ``retries``: gRPC makes calls again by itself, but not those of worker processes.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        folder: Path,
        *,
        seed: int,
        producers: int = 2,
        workers: int = 2,
        worker_processes: int = 0,
        habits: Habits = MIXED,
        admin_addresses: Sequence[str] = (),
        retries: bool = False,
    ) -> None:
        self.failures: list[BaseException] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self._addresses = list(addresses)
        self._admin_addresses = list(admin_addresses or addresses)
        self._folder = folder / "diaries"
        self._habits = habits
        self._retries = retries
        self._rng = random.Random(seed)
        self._count = worker_processes
        self._read: dict[Path, int] = {}
        self._acknowledged = 0
        self._producing = threading.Event()
        self._working = threading.Event()
        self._producers = [self._producer(number) for number in range(producers)]
        if habits.operated:
            self._producers.append(self._operator())
        self._workers = [self._worker(number) for number in range(workers)]

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._producing.set()
        self._working.set()
        for number in range(self._count):
            self.processes.append(self._process(number))
        for thread in (*self._producers, *self._workers):
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def fill(self, jobs: int) -> None:
        """Pushes so many jobs, 1,000 in a call; may be called before the context is entered."""
        self._folder.mkdir(parents=True, exist_ok=True)
        diary = Diary(self._folder, "filler")
        habits = replace(self._habits, push_batch=1000, repeated=0.0, pause=0.0)
        calls = iter(range(jobs // 1000))
        with Link(self._admin_addresses) as link:
            filler = Producer(link, diary, habits, self._rng.getrandbits(32))
            filler.run(lambda: next(calls, None) is not None)
        diary.close()

    def acknowledged(self) -> int:
        """How many Acks of workers were answered OK by now, as far as diaries tell."""
        for path in self._diaries("worker"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            self._acknowledged += sum(_acks(from_line(line)) for line in whole.splitlines())
        return self._acknowledged

    def wait_for_acknowledged(self, count: int, seconds: float = 60.0) -> None:
        """Returns once so many jobs more are acknowledged than are now; fails after so long."""
        goal, deadline = self.acknowledged() + count, time.monotonic() + seconds
        while self.acknowledged() < goal:
            self._raise_failure()
            assert time.monotonic() < deadline, f"{goal - self.acknowledged()} acks are missing"
            time.sleep(0.02)

    def stop_producing(self) -> None:
        """Workers acknowledge everything from here on."""
        (self._folder / CALM).touch()
        self._producing.clear()
        for thread in self._producers:
            thread.join(JOIN_SECONDS)
            assert not thread.is_alive(), "a producer hangs"

    def finish(self, drain_seconds: float = 60.0, assumptions: Assumptions = STRICT) -> Verdict:
        """After all faults have ended: no more pushes, everything is worked off, and judged."""
        self.stop_producing()
        with Link(self._admin_addresses) as link:
            try:
                drained(link, drain_seconds)
            finally:
                self._stop()
                self._raise_failure()  # which may be why nothing was drained
            forgets = not self._habits.retention
            final = final_state(link, forgets_succeeded=forgets)
        (self._folder / FINAL).write_text(final_to_json(final))
        return judge(recorded(self._folder), assumptions)

    def _raise_failure(self) -> None:
        """What a client met that no fault excuses, if any has."""
        if self.failures:
            raise self.failures[0]
        for number, process in enumerate(self.processes):
            if process.poll() not in _ENDS:
                said = (self._folder / f"worker-process-{number}.err").read_text()
                raise AssertionError(f"worker process {number} ended by itself: {said}")

    def _diaries(self, kind: str) -> list[Path]:
        return sorted(self._folder.glob(f"{kind}*.jsonl"))

    def _stop(self) -> None:
        self._producing.clear()
        self._working.clear()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(JOIN_SECONDS)
            finally:
                process.kill()
                process.wait()
        for thread in (*self._producers, *self._workers):
            if thread.is_alive():
                thread.join(JOIN_SECONDS)
                assert not thread.is_alive(), f"{thread.name} hangs"

    def _producer(self, number: int) -> threading.Thread:
        name, seed = f"producer-{number}", self._rng.getrandbits(32)

        def work(link: Link, diary: Diary) -> None:
            Producer(link, diary, self._habits, seed).run(self._producing.is_set)

        return self._thread(name, work)

    def _operator(self) -> threading.Thread:
        seed = self._rng.getrandbits(32)

        def work(link: Link, diary: Diary) -> None:
            Operator(link, diary, self._habits, seed).run(self._producing.is_set)

        return self._thread("operator", work)

    def _worker(self, number: int) -> threading.Thread:
        name, seed = f"worker-{number}", self._rng.getrandbits(32)

        def work(link: Link, diary: Diary) -> None:
            worker = Worker(link, diary, self._habits, name, seed)
            worker.run(self._working.is_set, self._producing.is_set)

        return self._thread(name, work)

    def _thread(self, name: str, work: Callable[[Link, Diary], None]) -> threading.Thread:
        def run() -> None:
            diary = Diary(self._folder, name)
            try:
                with Link(self._addresses, retries=self._retries) as link:
                    work(link, diary)
            except BaseException as error:  # raised at the end, in the thread of the test
                self.failures.append(error)
            finally:
                diary.close()

        return threading.Thread(target=run, name=name, daemon=True)

    def _process(self, number: int) -> "subprocess.Popen[bytes]":
        name = f"worker-process-{number}"
        with (self._folder / f"{name}.err").open("wb") as errors:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.faults.harness.worker_process"),
                    *(",".join(self._addresses), str(self._folder), name),
                    *(str(self._rng.getrandbits(32)), self._habits.to_json()),
                ],
                stderr=errors,
            )


def recorded(folder: Path) -> History:
    """What the diaries in a folder tell, and how it ended."""
    calls = [call for path in sorted(folder.glob("*.jsonl")) for call in read_diary(path)]
    return History(calls, final_from_json((folder / FINAL).read_text()))


def _acks(call: Call) -> int:
    return sum(
        isinstance(item, Settled) and item.action == "ack" and item.answer == "ok"
        for item in call.items
    )
