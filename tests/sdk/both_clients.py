"""One test for both clients: whatever Client answers, AsyncClient answers when it is awaited."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from towline import AsyncClient, Client
from towline.transport import Address


@asynccontextmanager
async def connected(
    kind: type[Client] | type[AsyncClient], address: Address, **options: Any
) -> AsyncIterator[Any]:
    if issubclass(kind, Client):
        with kind(address, **options) as client:
            yield client
    else:
        async with kind(address, **options) as async_client:
            yield async_client


async def answer(made: Any) -> Any:
    """What a method of either client returned."""
    return await made if inspect.isawaitable(made) else made
