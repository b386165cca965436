"""The process behind ``proxy.py``: passes bytes on, and fails as its standard input says.

    python -m tests.support.proxy_process 127.0.0.1:7480 7

It says where it listens, and then answers each line of standard input by one line. It ends with
its standard input.
"""

import asyncio
import json
import socket
import struct
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

from tests.support.proxy import (
    KINDS,
    Cut,
    CutAt,
    Delay,
    End,
    Fault,
    Halve,
    Hold,
    LoseReplies,
    Refuse,
    Way,
)
from tests.support.servers.ports import free_port

HOST = "127.0.0.1"
SEGMENT = 65_536
#: What closing a socket does then: reset the connection.
_NO_LINGER = struct.pack("ii", 1, 0)


class Severed(Exception):
    """The connection is to end."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


class Network:
    """All connections, and the faults in force."""

    def __init__(self, upstream: str, seed: int) -> None:
        host, _, port = upstream.rpartition(":")
        self.upstream = (host, int(port))
        self.figures: Counter[str] = Counter()
        self.faults: Sequence[Fault] = ()
        #: Set, and replaced, when the faults change.
        self.changed = asyncio.Event()
        self._seed = seed
        self._links: dict[asyncio.Task[None], Link] = {}
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def address(self) -> str:
        return f"{HOST}:{self._port}"

    async def listen(self) -> None:
        while self._server is None:
            port = self._port or free_port()
            try:
                self._server = await asyncio.start_server(self._serve, HOST, port, backlog=1024)
            except OSError:
                if self._port:
                    raise
            else:
                self._port = port

    def refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def fail(self, faults: Sequence[Fault]) -> None:
        self.faults = faults
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        if any(isinstance(fault, Refuse) for fault in faults):
            self.refuse()
        else:
            await self.listen()

    def spend(self, fault: Fault) -> bool:
        """Whether it was in force; it is no more."""
        left = [each for each in self.faults if each is not fault]
        spent, self.faults = len(left) < len(self.faults), left
        return spent

    def cut_all(self, end: End) -> None:
        for task, link in self._links.items():
            link.end = end
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.figures["connections"] += 1
        task = asyncio.current_task()
        assert task is not None
        link = Link(self, f"{self._seed} {self.figures['connections']}")
        self._links[task] = link
        try:
            await link.run(reader, writer)
        finally:
            del self._links[task]


class Link:
    """One connection: two ways."""

    def __init__(self, network: Network, seed: str) -> None:
        self.network = network
        self.seed = seed
        self.end = End.RESET
        #: What is left of it is one request: when the reply comes it is lost, and all ends so.
        self.last_reply: End | None = None

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until it ends; whatever happens, both sides are closed then."""
        sides = [writer]
        try:
            up_reader, up_writer = await asyncio.open_connection(*self.network.upstream)
            sides.append(up_writer)
            request = Pipe(self, Way.REQUEST, reader, up_writer)
            reply = Pipe(self, Way.REPLY, up_reader, writer)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(request.run())
                ways.create_task(reply.run())
        except* Severed as severed:
            cut = severed.exceptions[0]
            assert isinstance(cut, Severed)
            self._cut(sides, cut.end)
        except* OSError:
            # One side has reset it, or was not there: so it is for the other.
            _close(sides, End.RESET)
        except* asyncio.CancelledError:
            # A server of streams takes it ill if its task ends by being cancelled.
            self._cut(sides, self.end)
        else:
            _close(sides, End.CLOSE)
        for side in sides:
            with suppress(OSError, asyncio.CancelledError):
                await side.wait_closed()

    def _cut(self, sides: Sequence[asyncio.StreamWriter], end: End) -> None:
        self.network.figures["cuts"] += 1
        _close(sides, end)


class Pipe:
    """One way of one connection."""

    def __init__(
        self,
        link: Link,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._link = link
        self._network = link.network
        self._way = way
        self._reader = reader
        self._writer = writer
        self._chance = Random(f"{link.seed} {way}")
        #: How many bytes may still pass before a cut, and the faults for which that was drawn.
        self._left = 0
        self._drawn_for: Sequence[Fault] | None = None

    async def run(self) -> None:
        """Until there is no more to pass on. Raises Severed and OSError."""
        while True:
            data = await self._reader.read(SEGMENT)
            await self._held()
            if not data:
                break
            await self._pass(data)
        with suppress(OSError):  # that side is gone already
            self._writer.write_eof()

    async def _held(self) -> None:
        while Hold(self._way) in self._network.faults:
            await self._network.changed.wait()

    async def _pass(self, data: bytes) -> None:
        if self._way is Way.REPLY and self._link.last_reply is not None:
            self._lose(data)
            raise Severed(self._link.last_reply)
        for fault in self._network.faults:
            match fault:
                case Delay(self._way, least, most):
                    await asyncio.sleep(self._chance.uniform(least, most))
                case Halve(self._way, chance, stall) if self._chance.random() < chance:
                    half = len(data) // 2
                    await self._send(data[:half])
                    data = data[half:]
                    if stall is None:
                        self._lose(data)
                        raise Severed(End.RESET)
                    await asyncio.sleep(stall)
                case Cut(self._way):
                    await self._pass_up_to(fault, data)
                case CutAt() if self._way is Way.REQUEST and fault.mark.encode() in data:
                    self._cut_at(fault, data)
                case LoseReplies() if self._way is Way.REPLY:
                    await self._lose_all(fault, data)
        await self._held()
        await self._send(data)

    async def _pass_up_to(self, cut: Cut, data: bytes) -> None:
        """Returns if all of it may pass."""
        if self._drawn_for is not self._network.faults:
            self._drawn_for = self._network.faults
            self._left = self._chance.randint(cut.least, cut.most)
        if len(data) > self._left:
            await self._send(data[: self._left])
            self._lose(data[self._left :])
            raise Severed(cut.end)
        self._left -= len(data)

    def _cut_at(self, fault: CutAt, data: bytes) -> None:
        if not self._network.spend(fault):
            return
        if not fault.done:
            self._lose(data)
            raise Severed(fault.end)
        self._link.last_reply = fault.end

    async def _lose_all(self, fault: LoseReplies, data: bytes) -> None:
        lost = 0
        try:
            while data:
                self._lose(data)
                lost += len(data)
                async with asyncio.timeout(fault.quiet if lost >= fault.least else None):
                    data = await self._reader.read(SEGMENT)
        except TimeoutError:
            pass
        raise Severed(fault.end)

    def _lose(self, data: bytes) -> None:
        self._network.figures["lost"] += len(data)

    async def _send(self, data: bytes) -> None:
        self._network.figures["requests" if self._way is Way.REQUEST else "replies"] += len(data)
        self._writer.write(data)
        await self._writer.drain()


def _close(sides: Sequence[asyncio.StreamWriter], end: End) -> None:
    for side in sides:
        if end is End.CLOSE:
            side.close()
        else:
            plain: socket.socket | None = side.get_extra_info("socket")
            if plain is not None and plain.fileno() >= 0:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            side.transport.abort()


def _read_fault(told: dict[str, Any]) -> Fault:
    words = {"way": Way, "end": End}
    arguments: dict[str, Any] = {
        name: words[name](value) if name in words else value for name, value in told.items()
    }
    return KINDS[arguments.pop("kind")](**arguments)


async def main(upstream: str, seed: int) -> None:
    network = Network(upstream, seed)
    await network.listen()
    print(network.address, flush=True)  # noqa: T201 -- whoever started it waits for this
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        what, *details = json.loads(line)
        if what == "fail":
            await network.fail([_read_fault(told) for told in details[0]])
        elif what == "cut":
            network.cut_all(End(details[0]))
        names = ("connections", "cuts", "requests", "replies", "lost")
        answer = {name: network.figures[name] for name in names}
        print(json.dumps(answer), flush=True)  # noqa: T201 -- whoever asked waits for this
    network.refuse()
    network.cut_all(End.RESET)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
