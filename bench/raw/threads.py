"""Jobs dispatched from threads, by whatever client: one by one, each waiting for its answer."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

#: Seconds before what counts: connections are made, and what is imported late is there.
WARM = 0.2


class Dispatched(NamedTuple):
    jobs: int
    seconds: float
    cpu: float
    """Seconds of the processor of this process."""
    all: int
    """With those that came before the time that counts."""


def from_threads(callers: Sequence[Callable[[], object]], seconds: float) -> Dispatched:
    """Each is called again and again in a thread of its own, for WARM seconds and then for as long
    as it counts. Raises what one of them raises."""
    jobs, warm = [0] * len(callers), [0] * len(callers)
    began: list[tuple[float, float]] = []
    failed: list[BaseException] = []

    def begin() -> None:
        began.append((time.perf_counter(), time.process_time()))

    together = threading.Barrier(len(callers), begin)
    start = time.perf_counter()

    def caller(number: int) -> None:
        call = callers[number]
        try:
            call()  # the first one may take longer than the time
            warm[number] = 1
            while time.perf_counter() - start < WARM:
                call()
                warm[number] += 1
            together.wait()
            until = began[0][0] + seconds
            while time.perf_counter() < until:
                call()
                jobs[number] += 1
        except threading.BrokenBarrierError:
            pass  # of what another one has raised
        except BaseException as error:
            failed.append(error)
            together.abort()

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(len(callers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    ((clock, cpu),) = began
    took, used = time.perf_counter() - clock, time.process_time() - cpu
    return Dispatched(sum(jobs), took, used, sum(jobs) + sum(warm))
