"""The proxy does to connections what it says."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

import pytest

from tests.support.proxy import (
    BLACK_HOLE,
    Cut,
    CutAt,
    Delay,
    End,
    Halve,
    Hold,
    LoseReplies,
    Proxy,
    Refuse,
    Way,
)
from tests.support.servers.process import wait_until

SECONDS = 10.0
#: Long enough to see that nothing comes.
SILENCE = 0.2


class Echo:
    """Says what it hears, to everybody; and keeps it."""

    def __enter__(self) -> Self:
        self.heard = b""
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()
        self._server.close()

    def leave(self) -> None:
        """Listens no more. (Closing alone does not end the call that waits for a connection.)"""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    @property
    def address(self) -> str:
        host, port = self._server.getsockname()
        return f"{host}:{port}"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65_536):
                    self.heard += data
                    connection.sendall(data)
            except OSError:
                pass


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as running:
        yield running


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.address, seed=1) as running:
        yield running


@contextmanager
def connected(proxy: Proxy) -> Iterator[socket.socket]:
    host, _, port = proxy.address.rpartition(":")
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        yield connection


def exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := connection.recv(count - len(data))):
        data += more
    return data


def rest(connection: socket.socket) -> tuple[bytes, End]:
    """What still comes, and how it ends."""
    data = b""
    try:
        while more := connection.recv(65_536):
            data += more
    except ConnectionResetError:
        return data, End.RESET
    return data, End.CLOSE


def silent(connection: socket.socket) -> bool:
    connection.settimeout(SILENCE)
    try:
        connection.recv(1)
    except TimeoutError:
        connection.settimeout(SECONDS)
        return True
    return False


def test_all_passes_both_ways_and_so_does_the_end(proxy: Proxy) -> None:
    sent = bytes(range(256)) * 20_000
    with connected(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(sent,)).start()
        assert exactly(connection, len(sent)) == sent
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == (b"", End.CLOSE)
    figures = proxy.figures()
    assert (figures.connections, figures.requests, figures.replies) == (1, len(sent), len(sent))
    assert (figures.cuts, figures.lost) == (0, 0)


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("way", Way)
def test_a_connection_is_cut_after_so_many_bytes(
    proxy: Proxy, echo: Echo, way: Way, end: End
) -> None:
    with connected(proxy) as connection:
        connection.sendall(b"before")
        assert exactly(connection, 6) == b"before"
        proxy.fail(Cut(way, 10, 10, end))
        connection.sendall(b"0123456789abcdef")
        data, ended = rest(connection)
        assert ended == end
        # A reset may overtake what was under way.
        assert b"0123456789".startswith(data)
    wait_until(lambda: proxy.figures().cuts == 1, "it was cut")
    arrived = b"before0123456789" + (b"abcdef" if way is Way.REPLY else b"")
    wait_until(lambda: echo.heard == arrived, "what passed arrived, and no more")


def test_how_many_bytes_pass_is_drawn_from_the_seed(echo: Echo) -> None:
    def passed(seed: int) -> list[int]:
        with Proxy(echo.address, seed=seed) as proxy:
            proxy.fail(Cut(Way.REPLY, 0, 100_000, End.CLOSE))
            found = []
            for _ in range(3):
                with connected(proxy) as connection:
                    connection.sendall(b"x" * 100_000)
                    found.append(len(rest(connection)[0]))
        return found

    first = passed(7)
    assert len(set(first)) == 3
    assert passed(7) == first
    assert passed(8) != first


def test_a_request_arrives_whose_reply_is_lost(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as connection:
        proxy.fail(LoseReplies(least=6, quiet=0.05))
        connection.sendall(b"do it")
        assert silent(connection)
        connection.sendall(b"!")
        assert rest(connection) == (b"", End.RESET)
    assert echo.heard == b"do it!"
    assert proxy.figures().lost == 6


def test_only_one_way_is_slow(proxy: Proxy, echo: Echo) -> None:
    proxy.fail(Delay(Way.REPLY, 0.3, 0.4))
    arrived = []
    with connected(proxy) as connection:
        for heard in (b"slow", b"slowslow", b"slowslowslow"):
            begun = time.monotonic()
            connection.sendall(b"slow")
            wait_until(
                lambda: echo.heard == heard,  # noqa: B023 -- asked now
                "the request arrives",
            )
            arrived.append(time.monotonic() - begun)
            assert exactly(connection, 4) == b"slow"
            assert time.monotonic() - begun >= 0.3
    # The machine may stand still meanwhile, and not each time.
    assert min(arrived) < 0.3


def test_half_arrives_and_the_rest_later(proxy: Proxy) -> None:
    proxy.fail(Halve(Way.REPLY, chance=1.0, stall=0.3))
    with connected(proxy) as connection:
        begun = time.monotonic()
        connection.sendall(b"abcdef")
        assert exactly(connection, 3) == b"abc"
        assert exactly(connection, 3) == b"def"
        assert time.monotonic() - begun >= 0.3


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("done", [False, True])
def test_one_connection_ends_at_a_request_that_is_marked(
    proxy: Proxy, echo: Echo, done: bool, end: End
) -> None:
    with connected(proxy) as connection:
        proxy.fail(CutAt("COMMIT", done, end))
        connection.sendall(b"others")
        assert exactly(connection, 6) == b"others"
        connection.sendall(b"a COMMIT")
        assert rest(connection) == (b"", end)
    assert echo.heard == b"others" + (b"a COMMIT" if done else b"")
    assert (proxy.figures().cuts, proxy.figures().lost) == (1, len(b"a COMMIT"))
    with connected(proxy) as another:
        another.sendall(b"a COMMIT")
        assert exactly(another, 8) == b"a COMMIT"


def test_half_arrives_and_no_more(proxy: Proxy, echo: Echo) -> None:
    proxy.fail(Halve(Way.REQUEST, chance=1.0, stall=None))
    with connected(proxy) as connection:
        connection.sendall(b"abcdef")
        assert rest(connection)[1] is End.RESET
    wait_until(lambda: echo.heard == b"abc", "half arrives")


@pytest.mark.parametrize("way", Way)
def test_what_was_held_one_way_comes_when_that_is_over(proxy: Proxy, echo: Echo, way: Way) -> None:
    with connected(proxy) as connection:
        connection.sendall(b"before")
        assert exactly(connection, 6) == b"before"
        proxy.fail(Hold(way))
        connection.sendall(b"held")
        assert silent(connection)
        heard = b"before" if way is Way.REQUEST else b"beforeheld"
        wait_until(lambda: echo.heard == heard, "the other way is open")
        proxy.heal()
        assert exactly(connection, 4) == b"held"


def test_nobody_hears_of_an_end_while_all_is_held(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.fail(*BLACK_HOLE)
        connection.shutdown(socket.SHUT_WR)
        assert silent(connection)
        proxy.heal()
        assert rest(connection) == (b"", End.CLOSE)


def test_a_held_connection_can_be_cut(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        proxy.fail(*BLACK_HOLE)
        connection.sendall(b"never")
        assert silent(connection)
        proxy.cut_all()
        assert rest(connection) == (b"", End.RESET)


def test_no_new_connection_is_made_while_all_are_refused(proxy: Proxy) -> None:
    with connected(proxy) as old:
        proxy.fail(Refuse())
        with pytest.raises(ConnectionRefusedError), connected(proxy):
            pass
        old.sendall(b"goes on")
        assert exactly(old, 7) == b"goes on"
        proxy.heal()
        with connected(proxy) as new:
            new.sendall(b"again")
            assert exactly(new, 5) == b"again"


def test_a_side_that_is_gone_is_gone_for_the_other(echo: Echo) -> None:
    with Proxy(echo.address) as proxy:
        echo.leave()
        # Where the reset comes early, it is already the attempt to connect that meets it.
        with suppress(ConnectionResetError), connected(proxy) as connection:
            assert rest(connection) == (b"", End.RESET)
