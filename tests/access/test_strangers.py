"""Who shows no credentials gets nothing of a request into the broker, however large it is: by
clients that speak HTTP/2 by hand, against a broker in a process of its own."""

import struct
import time
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]
import pytest

from tests.access.senders import Tokens
from tests.support.broker_process import BrokerProcess
from tests.support.http2_peer import MOST_FRAME, Peer

PUSH = "/towline.v1.QueueService/Push"
RESERVE = "/towline.v1.QueueService/Reserve"
CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
MIB = 1 << 20
#: Calls of one client, each with a message of so many bytes.
CALLS, EACH = 8, 32 * MIB
#: What is under way, or stands in a window, when the broker refuses: less than one message.
MOST_SENT, MOST_GROWTH = 24 * MIB, 32 * MIB
#: Seconds after which a client that is let send nothing gives up, and in which the broker answers.
STUCK, PATIENCE = 0.5, 20.0
GREETING = struct.pack(">BI", 0, EACH)
UNKNOWN = ("authorization", "Bearer twl_nobodys")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")


@pytest.fixture(scope="module")
def good(tokens: Tokens) -> tuple[str, str]:
    return "authorization", f"Bearer {tokens.make('mailer', push=['*'], work=['*'])}"


@pytest.fixture(scope="module")
def broker(tokens: Tokens, good: tuple[str, str]) -> Iterator[BrokerProcess]:
    settings = {"TOWLINE_AUTH__TOKENS": str(tokens.path)}
    with BrokerProcess("memory:", environment=settings) as broker:
        yield broker


def pour_in(peer: Peer, method: str, *headers: tuple[str, str]) -> int:
    """As much of all its messages as the broker lets it, while it leaves a call open. Returns the
    bytes."""
    left = dict.fromkeys(range(1, 2 * CALLS, 2), EACH)
    for stream in left:
        peer.open(stream, method, *headers)
        peer.send(stream, GREETING)
    zeros, sent, moved = bytes(MOST_FRAME), 0, time.monotonic()
    while left and time.monotonic() < moved + STUCK:
        before = sent
        for stream in list(left):
            count = peer.send(stream, zeros[: left[stream] - 1])
            left[stream] -= count
            sent += count
            peer.hear()
            if stream in peer.over or left[stream] <= 1:
                del left[stream]
        if sent > before:
            moved = time.monotonic()
        peer.hear(0.0 if sent > before else 0.1)
    return sent


def hear_until(peer: Peer, count: int) -> None:
    """So many calls are over."""
    deadline = time.monotonic() + PATIENCE
    while len(peer.over) < count and time.monotonic() < deadline:
        peer.hear(0.1)
    assert len(peer.over) == count


@pytest.mark.parametrize(
    ("method", "headers"),
    [(PUSH, ()), (PUSH, (UNKNOWN,)), (RESERVE, ()), (CHECK, ()), (CHECK, (UNKNOWN,)), (WATCH, ())],
)
def test_what_a_stranger_sends_is_not_taken_in(
    method: str, headers: tuple[tuple[str, str], ...], broker: BrokerProcess
) -> None:
    process = psutil.Process(broker.pid)
    before = process.memory_info().rss
    with Peer(broker.address) as peer:
        peer.hear(PATIENCE)
        sent = pour_in(peer, method, *headers)
        growth = process.memory_info().rss - before
        if method == WATCH:
            assert not peer.over  # whoever watches is told of what changes
        else:
            hear_until(peer, CALLS)
    assert sent < MOST_SENT
    assert growth < MOST_GROWTH
    assert "Traceback" not in broker.log


def test_who_has_a_token_gets_a_large_request_in(
    good: tuple[str, str], broker: BrokerProcess
) -> None:
    """So the refusals above are not for want of room."""
    with Peer(broker.address) as peer:
        peer.hear(PATIENCE)
        peer.open(1, PUSH, good)
        peer.send(1, GREETING)
        left, deadline = EACH, time.monotonic() + PATIENCE
        while left and 1 not in peer.over and time.monotonic() < deadline:
            left -= peer.send(1, bytes(min(left, MOST_FRAME)), ends=left <= MOST_FRAME)
            peer.hear()
        assert not left
        hear_until(peer, 1)
        assert b"grpc-status\x013" in peer.over[1]  # INVALID_ARGUMENT: zeros are no request


def test_metadata_are_bounded(broker: BrokerProcess) -> None:
    with Peer(broker.address) as peer:
        peer.hear(PATIENCE)
        # 17 KiB, as HTTP/2 counts them, in one frame of less than 16.
        peer.open(1, PUSH, *((f"x-{number}", "v" * 350) for number in range(44)))
        hear_until(peer, 1)
        assert b"grpc-status\x018" in peer.over[1]  # RESOURCE_EXHAUSTED


def test_a_drain_waits_for_no_request_that_is_half_sent(
    tokens: Tokens, good: tuple[str, str]
) -> None:
    settings = {"TOWLINE_AUTH__TOKENS": str(tokens.path)}
    with BrokerProcess("memory:", environment=settings) as broker, Peer(broker.address) as peer:
        peer.hear(PATIENCE)
        peer.open(1, PUSH, good)
        peer.send(1, GREETING)
        peer.call(3, RESERVE, b"", good)
        hear_until(peer, 1)  # the second call is answered, so the first has begun
        assert broker.stop() == 0
        assert "still running" not in broker.log
