"""A client of HTTP/2 by hand: it keeps to the windows that it is given, and to nothing else."""

import select
import struct
from types import TracebackType
from typing import Self

from tests.support import http2

MOST_FRAME = 1 << 14


class Peer:
    """As a context manager it closes its connection at the end."""

    def __init__(self, address: str, *settings: tuple[int, int]) -> None:
        self._socket = http2.connect(address)
        self._socket.sendall(http2.PREFACE + http2.settings(*settings))
        self._came = b""
        #: Bytes that may be sent: on any stream that is opened, on the connection, on each stream.
        self._initial, self._room = 65_535, 65_535
        self._rooms: dict[int, int] = {}
        #: Bytes of messages that came, and what came last, by stream.
        self.received = 0
        self.over: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def open(self, stream: int, path: str, *headers: tuple[str, str]) -> None:
        """A call that says nothing yet."""
        self._socket.sendall(http2.open_call(stream, path, *headers))
        self._rooms[stream] = self._initial

    def send(self, stream: int, raw: bytes, *, ends: bool = False) -> int:
        """Sends as much of it in one frame as there is room for, and returns how much."""
        most = min(MOST_FRAME, len(raw), self._room, self._rooms.get(stream, 0))
        if most < len(raw) and most <= 0:
            return 0
        flags = http2.END_STREAM if ends and most == len(raw) else 0
        self._socket.sendall(http2.frame(http2.DATA, flags, stream, raw[:most]))
        self._room -= most
        self._rooms[stream] -= most
        return most

    def call(self, stream: int, path: str, request: bytes, *headers: tuple[str, str]) -> None:
        """One that is whole, and small."""
        self.open(stream, path, *headers)
        self.send(stream, http2.message(request), ends=True)

    def reset(self, stream: int) -> None:
        self._socket.sendall(http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", 8)))

    def hear(self, seconds: float = 0.0) -> None:
        """What has come, or what comes first within so long."""
        while select.select([self._socket], [], [], seconds)[0]:
            more = self._socket.recv(1 << 20)
            if not more:
                raise ConnectionError("the broker has closed the connection")
            self._came += more
            seconds = 0.0
        while len(self._came) >= 9:
            length = int.from_bytes(self._came[:3], "big")
            if len(self._came) < 9 + length:
                break
            kind, flags, stream = struct.unpack(">BBI", self._came[3:9])
            payload, self._came = self._came[9 : 9 + length], self._came[9 + length :]
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case http2.WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                if not stream:
                    self._room += more
                elif stream in self._rooms:
                    self._rooms[stream] += more
            case http2.SETTINGS if not flags & http2.ACK:
                self._obey(payload)
            case http2.PING if not flags & http2.ACK:
                self._socket.sendall(http2.frame(http2.PING, http2.ACK, 0, payload))
            case http2.DATA | http2.HEADERS | http2.RST_STREAM:
                self.received += len(payload) if kind == http2.DATA else 0
                if kind == http2.RST_STREAM or flags & http2.END_STREAM:
                    self.over[stream] = self.over.get(stream, b"") + payload
                    self._rooms.pop(stream, None)

    def _obey(self, payload: bytes) -> None:
        for key, value in struct.iter_unpack(">HI", payload):
            if key == http2.INITIAL_WINDOW:
                for stream in self._rooms:
                    self._rooms[stream] += value - self._initial
                self._initial = value
        self._socket.sendall(http2.frame(http2.SETTINGS, http2.ACK, 0))
