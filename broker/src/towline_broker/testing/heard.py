"""The listener of a test."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

#: Seconds that news from another broker may take.
PATIENCE = 5.0


class Heard:
    """What a driver has told since the last take."""

    def __init__(self) -> None:
        self.ready: Counter[str] = Counter()
        self.ended: list[str] = []
        #: What was told of as coming, ever; it need not come true.
        self.coming: Counter[str] = Counter()

    def jobs_ready(self, queue: str, count: int) -> None:
        self.ready[queue] += count

    def jobs_coming(self, queue: str, count: int) -> None:
        self.coming[queue] += count

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        self.ended.extend(job_ids)

    def take(self) -> tuple[dict[str, int], list[str]]:
        """Jobs ready by queue, and ids of jobs ended, since the last call."""
        told = {queue: count for queue, count in self.ready.items() if count}, self.ended
        self.ready, self.ended = Counter(), []
        return told

    async def until_ready(self, queue: str, count: int = 1) -> None:
        """Waits until so many jobs of the queue were told of as ready."""
        await _until(lambda: self.ready[queue] >= count, f"{count} jobs ready in {queue}")

    async def until_coming(self, queue: str, count: int = 1) -> None:
        """Waits until so many jobs of the queue were told of as coming."""
        await _until(lambda: self.coming[queue] >= count, f"{count} jobs coming in {queue}")

    async def until_ended(self, *job_ids: str) -> None:
        """Waits until the jobs were told of as ended."""
        await _until(lambda: set(job_ids) <= set(self.ended), f"the end of {job_ids}")


async def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"the listener was not told of {what}"
        await asyncio.sleep(0.002)
