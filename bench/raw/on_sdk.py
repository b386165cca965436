"""Towline through its SDK: jobs are dispatched from threads, as most programs do it."""

import threading
import time

from bench import messages
from bench.raw import on_towline
from bench.raw.queue import PAYLOAD
from towline import Client

_DATA = {"text": PAYLOAD.decode()}


class Queue(on_towline.Queue):
    """Takes what was dispatched."""


def dispatch(address: str, setting: str, callers: int, seconds: float) -> tuple[int, float]:
    """From so many threads, each waiting for its answers: how many jobs, in how many seconds."""
    jobs = [0] * callers
    with Client(address) as client:
        began = time.perf_counter()

        def caller(number: int) -> None:
            while time.perf_counter() - began < seconds:
                client.dispatch("Bench", _DATA, queue=messages.QUEUE)
                jobs[number] += 1

        threads = [threading.Thread(target=caller, args=(number,)) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(jobs), time.perf_counter() - began
