"""The SDK's hot paths: jobs dispatched one by one and as a batch, and jobs run by a worker.

The broker is a process of its own, so that only the SDK is counted. The worker has one job at a
time and holds none ahead: else the number of its calls would depend on how fast the broker is.
"""

from bench import processes
from bench.guard.counter import Counter
from towline import Client, JobRequest, Registry, Worker, job

JOBS = 50
ROUNDS = 3


def count(counter: Counter) -> dict[str, float]:
    """Instructions per job of each path: the least of some rounds."""
    with processes.broker("memory:") as address, counter.counting(), Client(address) as client:
        rounds = [_round(counter, client) for _ in range(ROUNDS + 1)][1:]
    return {path: min(each[path] for each in rounds) for path in rounds[0]}


def _round(counter: Counter, client: Client) -> dict[str, float]:
    started = counter.taken.instructions
    for number in range(JOBS):
        client.dispatch("count", {"number": number})
    one_by_one = counter.taken.instructions
    client.dispatch_batch(JobRequest("count", {"number": number}) for number in range(JOBS))
    as_a_batch = counter.taken.instructions
    return {
        "SDK dispatch": (one_by_one - started) / JOBS,
        "SDK dispatch_batch": (as_a_batch - one_by_one) / JOBS,
        "SDK worker": _work(counter, client),
    }


def _work(counter: Counter, client: Client) -> float:
    """Instructions from one job to the next, without the start and the end of the worker."""
    seen = []

    def count(number: int) -> None:
        seen.append(counter.taken.instructions)

    registry = Registry()
    registry.register(job(count))
    worker = Worker(
        client,
        concurrency=1,
        prefetch=0,
        stop_when_empty=True,
        guardian=False,
        registry=registry,
    )
    worker.run()
    assert len(seen) == 2 * JOBS
    return (seen[-1] - seen[0]) / (len(seen) - 1)
