"""Sending over a connection that may be closed by now.

uvloop raises RuntimeError for a connection that was reset, where asyncio's own loop raises
ConnectionResetError; redis-py knows the second only.
"""

from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection


def is_of_closed(error: BaseException) -> bool:
    """Whether it is what uvloop says of a connection that is no more."""
    return isinstance(error, RuntimeError) and "closed" in str(error)


async def send(connection: AbstractConnection, packed: bytes | Sequence[Any]) -> None:
    """Raises what the connection raises, RedisError or OSError."""
    try:
        await connection.send_packed_command(packed, check_health=False)
    except RuntimeError as error:
        if not is_of_closed(error):
            raise
        raise ConnectionResetError(str(error)) from error
