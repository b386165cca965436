"""The SDK's hot paths: jobs dispatched one by one and as a batch, and jobs run by a worker.

The broker is a process of its own, so that only the SDK is counted. The worker has one job at a
time and holds none ahead: else the number of its calls would depend on how fast the broker is.
"""

from bench import processes
from bench.guard.counter import Counter
from towline import Client, JobRequest, Registry, Worker, job

JOBS = 50
ROUNDS = 3
#: Jobs after which a stream is open, and carries those that follow.
UNTIL_STREAMED = 100


def count(counter: Counter) -> dict[str, float]:
    """Instructions per job of each path: the least of some rounds."""
    with (
        processes.broker("memory:") as address,
        counter.counting(),
        Client(address) as client,
        Client(address, join_pushes=False) as apart,
    ):
        rounds = [_round(counter, client, apart) for _ in range(ROUNDS + 1)][1:]
    return {path: min(each[path] for each in rounds) for path in rounds[0]}


def _round(counter: Counter, client: Client, apart: Client) -> dict[str, float]:
    _dispatch(counter, client, UNTIL_STREAMED)
    by_stream = _dispatch(counter, client, JOBS)
    by_calls = _dispatch(counter, apart, JOBS)
    one_by_one = counter.taken.instructions
    client.dispatch_batch(JobRequest("count", {"number": number}) for number in range(JOBS))
    as_a_batch = counter.taken.instructions
    return {
        "SDK dispatch": by_stream,
        "SDK dispatch by a call": by_calls,
        "SDK dispatch_batch": (as_a_batch - one_by_one) / JOBS,
        "SDK worker": _work(counter, client),
    }


def _dispatch(counter: Counter, client: Client, jobs: int) -> float:
    """Instructions for each of so many jobs."""
    started = counter.taken.instructions
    for number in range(jobs):
        client.dispatch("count", {"number": number})
    return (counter.taken.instructions - started) / jobs


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
    assert len(seen) == 3 * JOBS + UNTIL_STREAMED
    return (seen[-1] - seen[0]) / (len(seen) - 1)
