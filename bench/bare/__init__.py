"""Each store used as a simple queue, with nothing of Towline around it, and without gRPC.

A batch of jobs is inserted, the next of them are claimed in their order, and deleted. No policy, no
statistics, no settle memory. Durable as the store of a broker is. It is a plain client and no
bound: each call is a transaction or a script of its own (in the file calls share a sync), where the
broker joins calls that come together, and nothing is tuned. So a broker can be faster.
"""

from collections.abc import Sequence
from typing import Protocol


class BareStore(Protocol):
    """Used by several callers of one event loop at the same time."""

    async def open(self) -> None: ...

    async def insert(self, envelopes: Sequence[bytes]) -> None: ...

    async def claim(self, count: int) -> list[int]:
        """Reserves the next ones; returns what :meth:`delete` takes."""

    async def delete(self, keys: Sequence[int]) -> None: ...

    async def close(self) -> None: ...
