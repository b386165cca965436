"""Frames of HTTP/2 as bytes, right and wrong, without a library that would keep to the rules."""

import socket
import struct
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
#: The setting of how much a stream may send before it is told that there is more room.
INITIAL_WINDOW = 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_header(len(payload), kind, flags, stream) + payload


def frame_header(length: int, kind: int, flags: int, stream: int) -> bytes:
    """Of a frame that need not have this length."""
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream)


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", key, value) for key, value in pairs))


def header_block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """By HPACK, each as a literal that goes into no table."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in pairs)


def _text(text: str) -> bytes:
    raw = text.encode()
    size, prefix = len(raw), bytearray()
    if size < 127:
        prefix.append(size)
    else:
        prefix.append(127)
        size -= 127
        while size > 127:
            prefix.append(size & 127 | 128)
            size >>= 7
        prefix.append(size)
    return bytes(prefix) + raw


def call_headers(path: str, *more: tuple[str, str]) -> bytes:
    """The header block of a call by gRPC."""
    return header_block(
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *more,
        ]
    )


def message(raw: bytes, *, compressed: bool = False) -> bytes:
    """As gRPC puts it into DATA frames."""
    return bytes([compressed]) + struct.pack(">I", len(raw)) + raw


def open_call(stream: int, path: str, *more: tuple[str, str]) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, call_headers(path, *more))


def whole_call(stream: int, path: str, raw: bytes) -> bytes:
    return open_call(stream, path) + frame(DATA, END_STREAM, stream, message(raw))


def connect(address: str, seconds: float = 5.0) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=seconds)


def greeted(address: str, *pairs: tuple[int, int]) -> socket.socket:
    """A connection on which both sides have said that they speak HTTP/2."""
    peer = connect(address)
    peer.sendall(PREFACE + settings(*pairs) + frame(SETTINGS, ACK, 0))
    if not peer.recv(9):
        raise ConnectionError("the broker has closed the connection")
    return peer
