"""Between a driver and a database: a network that fails at a COMMIT, or goes away as a whole."""

import asyncio
from contextlib import suppress
from enum import Enum, auto
from typing import Self
from urllib.parse import urlsplit


class Cut(Enum):
    #: The server never hears of the COMMIT.
    BEFORE_COMMIT = auto()
    #: The server has committed, and its reply is lost.
    AFTER_COMMIT = auto()


class CommitProxy:
    """Passes everything on; once it is armed, it cuts the connection with the next COMMIT."""

    def __init__(self, url: str, commit: bytes) -> None:
        """``url``: of the database behind it; ``commit``: how a COMMIT looks on the wire."""
        self._parts = urlsplit(url)
        self._commit = commit
        self._tasks: set[asyncio.Task[None]] = set()
        self._armed: Cut | None = None
        self._away = False
        self.cuts = 0
        #: Connections that were not made because it was away.
        self.refused = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Of the same database, by way of the proxy."""
        host, port = self._server.sockets[0].getsockname()
        user = self._parts.netloc.rpartition("@")[0]
        return self._parts._replace(netloc=f"{user}@{host}:{port}").geturl()

    def cut_next(self, cut: Cut) -> None:
        self._armed = cut

    def leave(self) -> None:
        """Ends every connection and makes no new one."""
        self._away = True
        for task in self._tasks:
            task.cancel()

    def come_back(self) -> None:
        self._away = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            self.refused += 1
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A server of streams takes it ill if its task ends by being cancelled.
        with suppress(OSError, asyncio.CancelledError):
            await self._pass_on(reader, writer)
        await _close(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._parts.hostname, self._parts.port
        up_reader, up_writer = await asyncio.open_connection(host, port)
        replies = asyncio.create_task(_copy(up_reader, writer))
        try:
            while data := await reader.read(65_536):
                if self._armed is not None and self._commit in data:
                    await self._cut(data, up_reader, up_writer, replies)
                    break
                up_writer.write(data)
                await up_writer.drain()
        finally:
            replies.cancel()
            await _close(up_writer)

    async def _cut(
        self,
        data: bytes,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
        replies: "asyncio.Task[None]",
    ) -> None:
        cut, self._armed = self._armed, None
        self.cuts += 1
        replies.cancel()
        await asyncio.gather(replies, return_exceptions=True)
        if cut is Cut.AFTER_COMMIT:
            up_writer.write(data)
            await up_writer.drain()
            await up_reader.read(65_536)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
