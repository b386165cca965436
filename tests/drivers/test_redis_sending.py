"""Sending over a connection that ended meanwhile: what the event loop says of it becomes an error
that callers know."""

from unittest.mock import Mock

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from towline_broker.drivers.redis.link.endpoint import abandon
from towline_broker.drivers.redis.link.sending import is_of_closed, send

#: What uvloop raises, word for word.
OF_UVLOOP = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


class Stub(Connection):
    """Sends nowhere."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.error = error
        self.sent: list[tuple[object, bool]] = []

    async def send_packed_command(self, command: object, check_health: bool = True) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((command, check_health))


async def test_what_is_packed_leaves_as_it_is_and_without_a_ping_before_it() -> None:
    connection = Stub()
    await send(connection, [b"one", b"two"])
    assert connection.sent == [([b"one", b"two"], False)]


async def test_a_closed_connection_is_said_to_be_reset() -> None:
    error = RuntimeError(OF_UVLOOP)
    assert is_of_closed(error)
    with pytest.raises(ConnectionResetError, match="handler is closed") as raised:
        await send(Stub(error), b"one")
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("another mistake"),
        RedisConnectionError("closed by the server"),
        BrokenPipeError("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_other_error_is_raised_as_it_came(error: Exception) -> None:
    assert not is_of_closed(error)
    with pytest.raises(type(error)) as raised:
        await send(Stub(error), b"one")
    assert raised.value is error


@pytest.mark.parametrize("error", [OSError, ValueError, RuntimeError])
def test_a_connection_that_has_ended_by_itself_can_be_given_up(error: type[Exception]) -> None:
    """Whoever waits for an answer on it would not be told of its end otherwise."""
    writer = Mock(name="writer")
    writer.is_closing.return_value = False
    writer.get_extra_info.return_value.setsockopt.side_effect = error("negative file descriptor")
    connection = Stub()
    connection._writer = writer
    abandon(connection)
    writer.transport.abort.assert_called_once_with()
    writer.is_closing.return_value = True
    abandon(connection)
    writer.transport.abort.assert_called_once_with()
    connection._writer = None
