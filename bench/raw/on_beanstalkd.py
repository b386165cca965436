"""beanstalkd, by its text protocol with many commands in one write."""

import asyncio

from bench.raw.queue import PAYLOAD, Tally

_PUT = b"put 1024 0 600 %d\r\n%b\r\n" % (len(PAYLOAD), PAYLOAD)


class Queue:
    def __init__(self, address: str, setting: str) -> None:
        host, _, port = address.rpartition(":")
        self._at = host, int(port)
        self._job = b""

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(*self._at)

    async def push(self, jobs: int) -> None:
        self._writer.write(_PUT * jobs)
        for _ in range(jobs):
            answer = await self._reader.readline()
            if not answer.startswith(b"INSERTED "):
                raise AssertionError(answer)

    async def work(self, batch: int, tally: Tally) -> None:
        while not tally.finished.is_set():
            self._writer.write(b"reserve-with-timeout 0\r\n" * batch)
            reserved = [await self._reserved() for _ in range(batch)]
            taken = [job for job in reserved if job]
            await self._delete(taken)
            tally.done(len(taken))

    async def take(self) -> None:
        self._writer.write(b"reserve\r\n")
        self._job = await self._reserved()

    async def settle(self) -> None:
        await self._delete([self._job])

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    async def _reserved(self) -> bytes:
        """The number of a job; empty if there was none."""
        answer = await self._reader.readline()
        if not answer.startswith(b"RESERVED "):
            return b""
        _, job, size = answer.split()
        await self._reader.readexactly(int(size) + 2)
        return job

    async def _delete(self, jobs: list[bytes]) -> None:
        self._writer.write(b"".join(b"delete %b\r\n" % job for job in jobs))
        for _ in jobs:
            answer = await self._reader.readline()
            if answer != b"DELETED\r\n":
                raise AssertionError(answer)
