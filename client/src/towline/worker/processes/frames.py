"""What a worker and one of its children tell each other, as frames over two sockets.

    jobs      worker to child: RUN, BURY          child to worker: all the others
    control   worker to child: CANCEL, PROLONGED, which a thread of the child hears while its
              handler runs

Contents are messages of the contract and plain numbers. Nothing is pickled.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
from dataclasses import dataclass

from towline.context import CancelReason
from towline.v1 import job_pb2

_HEADER = struct.Struct("!BI")
_RUN = struct.Struct("!d")
_BURY = struct.Struct("!dBH")
_CANCEL = struct.Struct("!IB")
_PROLONGED = struct.Struct("!Id")
_DONE = struct.Struct("!Q")

_READ = 256 * 1024
_REASONS = list(CancelReason)


class Kind(enum.IntEnum):
    RUN = 1
    """Run this job: Run."""
    BURY = 2
    """Decide about this job, whose process is gone: Burial."""
    CANCEL = 3
    """Tell the handler to end: the number of its job in this child, and why."""
    PROLONGED = 4
    """The number of the job, and the new deadline of its lease."""
    READY = 5
    """The child waits for its first job."""
    BEGUN = 6
    """The handler of a job that has a timeout starts now."""
    REPORT = 7
    """Progress and checkpoint, as the contract writes them."""
    ACK = 8
    NACK = 9
    """How the job is to be settled."""
    DONE = 10
    """The child is free; the bytes of its resident set."""


@dataclass(frozen=True)
class Run:
    """``lease_deadline`` is on the monotonic clock, which is one for all processes of a machine."""

    lease: job_pb2.Lease
    lease_deadline: float

    def pack(self) -> bytes:
        return _RUN.pack(self.lease_deadline) + self.lease.SerializeToString()

    @classmethod
    def unpack(cls, body: bytes) -> Run:
        [deadline] = _RUN.unpack_from(body)
        return cls(job_pb2.Lease.FromString(body[_RUN.size :]), deadline)


@dataclass(frozen=True)
class Burial:
    """A job whose process is gone.

    ``started_at`` is on the monotonic clock. ``reason`` is why the process was killed; None: it
    died by itself, as ``how`` says.
    """

    lease: job_pb2.Lease
    started_at: float
    reason: CancelReason | None
    how: str

    def pack(self) -> bytes:
        how = self.how.encode()
        code = 0 if self.reason is None else _REASONS.index(self.reason) + 1
        head = _BURY.pack(self.started_at, code, len(how))
        return head + how + self.lease.SerializeToString()

    @classmethod
    def unpack(cls, body: bytes) -> Burial:
        started_at, code, length = _BURY.unpack_from(body)
        text_end = _BURY.size + length
        lease = job_pb2.Lease.FromString(body[text_end:])
        reason = _REASONS[code - 1] if code else None
        return cls(lease, started_at, reason, body[_BURY.size : text_end].decode())


def pack_cancel(number: int, reason: CancelReason) -> bytes:
    return _CANCEL.pack(number, _REASONS.index(reason))


def unpack_cancel(body: bytes) -> tuple[int, CancelReason]:
    number, code = _CANCEL.unpack(body)
    return number, _REASONS[code]


def pack_prolonged(number: int, deadline: float) -> bytes:
    return _PROLONGED.pack(number, deadline)


def unpack_prolonged(body: bytes) -> tuple[int, float]:
    number, deadline = _PROLONGED.unpack(body)
    return number, deadline


def pack_done(resident: int) -> bytes:
    return _DONE.pack(resident)


def unpack_done(body: bytes) -> int:
    [resident] = _DONE.unpack(body)
    return int(resident)


class _Parser:
    """Cuts what came over a socket into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Kind, bytes]]:
        buffer = self._buffer
        buffer += data
        frames: list[tuple[Kind, bytes]] = []
        start = 0
        while len(buffer) - start >= _HEADER.size:
            kind, length = _HEADER.unpack_from(buffer, start)
            end = start + _HEADER.size + length
            if len(buffer) < end:
                break
            frames.append((Kind(kind), bytes(buffer[start + _HEADER.size : end])))
            start = end
        del buffer[:start]
        return frames


class BlockingFrames:
    """The child's end: waits. ``send`` is safe from any thread, ``read`` is for one."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._parser = _Parser()
        self._read: list[tuple[Kind, bytes]] = []

    def fileno(self) -> int:
        return self._link.fileno()

    def send(self, kind: Kind, body: bytes = b"") -> None:
        """Raises OSError when the worker is gone."""
        with self._lock:
            self._link.sendall(_HEADER.pack(kind, len(body)) + body)

    def read(self) -> tuple[Kind, bytes] | None:
        """The next frame; None when the other side has closed the socket, or is gone."""
        while not self._read:
            try:
                data = self._link.recv(_READ)
            except ConnectionError:
                return None
            if not data:
                return None
            self._read = self._parser.feed(data)
        return self._read.pop(0)


class QueuedFrames:
    """The worker's end: never waits. For one thread at a time.

    unread  the child is gone and has not read all that was sent to it. The kernel tells that, of
            sockets of Linux: whoever reads after the end of a peer that left something unread gets
            ECONNRESET. Where it does not tell it, this stays False.
    """

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self.link = link
        self.unread = False
        self._parser = _Parser()
        self._unsent = bytearray()

    @property
    def unsent(self) -> bool:
        """Whether ``flush`` is to be called once the socket takes more."""
        return bool(self._unsent)

    def send(self, kind: Kind, body: bytes = b"") -> None:
        """Send as much as fits now. To a child that is gone nothing is sent."""
        self._unsent += _HEADER.pack(kind, len(body)) + body
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                sent = self.link.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            return
        except OSError:  # gone: its end is heard of in other ways
            self.unread = True
            self._unsent.clear()

    def read(self) -> list[tuple[Kind, bytes]] | None:
        """The frames that have come; None when the child has closed the socket, or is gone."""
        try:
            data = self.link.recv(_READ)
        except BlockingIOError:
            return []
        except OSError as error:
            self._note(error)
            return None
        return self._parser.feed(data) if data else None

    def read_rest(self) -> list[tuple[Kind, bytes]]:
        """What a child has sent before it ended."""
        frames: list[tuple[Kind, bytes]] = []
        try:
            while data := self.link.recv(_READ):
                frames += self._parser.feed(data)
        except OSError as error:  # also: closed, or something it has started holds it open
            self._note(error)
        return frames

    def _note(self, error: OSError) -> None:
        self.unread = self.unread or isinstance(error, ConnectionResetError)

    def close(self) -> None:
        self.link.close()
