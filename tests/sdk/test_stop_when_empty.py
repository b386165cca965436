"""A worker that ends when its queues are empty has run everything that was ready, and all of it."""

import time

from towline import Client, Registry, Retry, Worker, current_job, job
from towline.worker import StopReason

registry = Registry()


@job(registry=registry)
def work(seconds: float) -> None:
    time.sleep(seconds)


@job(registry=registry)
def fan_out(count: int) -> None:
    """Jobs that come while the last ones run are run as well."""
    time.sleep(0.2)
    with Client("memory://empty") as client:
        client.dispatch_batch(work.job(0) for _ in range(count))


@job(registry=registry, backoff=0, jitter=0)
def second_time() -> None:
    if current_job().attempt == 1:
        raise Retry(after=0)


def run(concurrency: int = 2) -> Worker:
    worker = Worker(
        "memory://empty",
        concurrency=concurrency,
        registry=registry,
        stop_when_empty=True,
        guardian=False,
    )
    worker.run()
    return worker


def test_everything_that_is_ready_is_run_and_what_comes_of_it() -> None:
    with Client("memory://empty") as client:
        client.dispatch_batch([work.job(0.05) for _ in range(20)])
        client.dispatch(fan_out, count=30)
        client.dispatch(second_time)
        client.dispatch(work, seconds=0.0, delay=3600)
        worker = run()
        total = client.stats().total
    assert worker.stop_reason is StopReason.EMPTY
    assert worker.stats.processed == 20 + 1 + 30 + 1
    assert (total.ready, total.leased, total.scheduled) == (0, 0, 1)


def test_on_an_empty_queue_it_ends_at_once() -> None:
    began = time.monotonic()
    assert run().stop_reason is StopReason.EMPTY
    assert time.monotonic() - began < 5
