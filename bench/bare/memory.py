"""A deque and a dict."""

from collections import deque
from collections.abc import Sequence
from itertools import count


class BareMemory:
    def __init__(self) -> None:
        self._keys = count()
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._claimed: dict[int, bytes] = {}

    async def open(self) -> None:
        pass

    async def insert(self, envelopes: Sequence[bytes]) -> None:
        self._waiting.extend(zip(self._keys, envelopes, strict=False))

    async def claim(self, number: int) -> list[int]:
        taken = [self._waiting.popleft() for _ in range(min(number, len(self._waiting)))]
        self._claimed.update(taken)
        return [key for key, _ in taken]

    async def delete(self, keys: Sequence[int]) -> None:
        for key in keys:
            del self._claimed[key]

    async def close(self) -> None:
        pass
