"""Records appended to a file with one fdatasync for all that are waiting, and a deque."""

import asyncio
import os
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.bare.memory import BareMemory

_HEAD = struct.Struct("<II")


class BareJournal:
    def __init__(self, folder: Path) -> None:
        self._memory = BareMemory()
        self._file = os.open(folder / "bare.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._thread = ThreadPoolExecutor(1)
        self._buffer: list[bytes] = []
        self._syncing: asyncio.Future[None] | None = None

    async def open(self) -> None:
        pass

    async def insert(self, envelopes: Sequence[bytes]) -> None:
        await self._memory.insert(envelopes)
        await self._append(envelopes)

    async def claim(self, number: int) -> list[int]:
        keys = await self._memory.claim(number)
        await self._append([key.to_bytes(8) for key in keys])
        return keys

    async def delete(self, keys: Sequence[int]) -> None:
        await self._memory.delete(keys)
        await self._append([key.to_bytes(8) for key in keys])

    async def close(self) -> None:
        self._thread.shutdown()
        os.close(self._file)

    async def _append(self, records: Sequence[bytes]) -> None:
        """Returns when they are on the disk; whoever comes while it syncs shares the next one."""
        self._buffer += [_HEAD.pack(len(body), zlib.crc32(body)) + body for body in records]
        while self._syncing is not None:
            await asyncio.shield(self._syncing)
        if not self._buffer:
            return  # somebody else's sync has taken it along
        taken, self._buffer = b"".join(self._buffer), []
        loop = asyncio.get_running_loop()
        self._syncing = loop.create_future()
        try:
            await loop.run_in_executor(self._thread, self._write, taken)
        finally:
            done, self._syncing = self._syncing, None
            done.set_result(None)

    def _write(self, data: bytes) -> None:
        os.write(self._file, data)
        os.fdatasync(self._file)
