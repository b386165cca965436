"""Links to Redis as the tests use them: scripts that show whether they ran, and a network between
that can be cut."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Self

from tests.support.waiting import until
from towline_broker.drivers.redis.link.interface import Script
from towline_broker.drivers.redis.link.link import RedisLink
from towline_broker.drivers.redis.link.url import parse_url

_PREFIXES = count(1)

#: Counts how often it ran.
COUNT = Script("count", "return redis.call('INCR', KEYS[1] .. 'ran')", write=True)
#: The same, declared to be harmless when it runs twice.
COUNT_REPEATABLE = Script("count again", COUNT.text + " ", write=True, repeatable=True)
READ = Script("read", "return redis.call('GET', KEYS[1] .. 'ran')", write=False)
SHOUT = Script("shout", "return redis.call('PUBLISH', ARGV[1], ARGV[2])", write=True)
#: Holds the server for a number of milliseconds, very roughly, then counts. (There is no clock that
#: goes on during a script in every version.)
SLOW = Script(
    "slow",
    """
    for _ = 1, ARGV[1] * 100000 do end
    return redis.call('INCR', KEYS[1] .. 'ran')
    """,
    write=True,
)


def own_keys(url: str, **options: object) -> str:
    """The url with a prefix that no other test uses, and these options."""
    options = {"prefix": f"test{next(_PREFIXES)}", **options}
    mark = "&" if "?" in url else "?"
    return url + mark + "&".join(f"{name}={value}" for name, value in options.items())


class Linked:
    """An open link and what it was told."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link
        self.messages: list[bytes] = []
        self.gaps = 0
        #: What is done with a message.
        self.hear: Callable[[bytes], None] = self.messages.append

    def hear_gap(self) -> None:
        self.gaps += 1

    async def count(self, script: Script = COUNT, partition: int = 0) -> int:
        return int(await self.link.run(script, partition))

    async def ran(self, partition: int = 0) -> int:
        return int(await self.link.run(READ, partition) or 0)

    async def shout(self, text: str, partition: int = 0) -> None:
        await self.link.run(SHOUT, partition, [self.link.channel, text])

    async def wait_message(self, text: str) -> None:
        async def heard() -> bool:
            return text.encode() in self.messages

        await until(heard, f"the message {text!r}")

    async def wait_gap(self, before: int = 0) -> None:
        async def told() -> bool:
            return self.gaps > before

        await until(told, "a gap is told of")


def make_link(url: str) -> RedisLink:
    return RedisLink(parse_url(url), schema=1)


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Linked]:
    found = Linked(make_link(url))
    await found.link.open(lambda payload: found.hear(payload), found.hear_gap)
    try:
        yield found
    finally:
        await found.link.close()


class Proxy:
    """Passes on what comes to its port, until it is told otherwise."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._to = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Requests pass; a connection on which an answer comes back is cut in its place.
        self.cut_answers = False
        #: Nothing is taken from anybody while it is clear.
        self.flows = asyncio.Event()
        self.flows.set()
        self.connections = 0
        #: How many of them a client has ended.
        self.ended = 0
        #: How many pieces of answers have passed.
        self.answers = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def cut(self) -> None:
        """Ends every connection."""
        for writer in self._writers:
            if not writer.is_closing():
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, back}
        for task in (self._pass(reader, back), self._pass(there, writer, answers=True)):
            self._tasks.add(asyncio.create_task(task))

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool = False
    ) -> None:
        try:
            while data := await source.read(65536):
                await self.flows.wait()
                if answers and self.cut_answers:
                    self.cut()
                    return
                self.answers += answers
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self.ended += not answers
            sink.close()
