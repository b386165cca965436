"""Operations on their way to a transaction that they share with others, and what comes of each."""

import asyncio
from collections.abc import Sequence
from typing import Any

from towline_broker.drivers.interface import Listener, tell
from towline_broker.drivers.sql.transaction import Effects, Operation


class Submitted:
    __slots__ = ("answer", "effects", "error", "items", "operation", "result", "room")

    def __init__(
        self, operation: Operation[Any], answer: asyncio.Future[Any], items: int, room: int
    ) -> None:
        """``items``: how many jobs it is about. ``room``: bytes that it takes on the disk, about.
        If not 0, it may be told that there are none."""
        self.operation = operation
        self.answer = answer
        self.items = items
        self.room = room
        self.result: Any = None
        self.error: Exception | None = None
        self.effects: Effects | None = None

    def succeed(self, result: object, effects: Effects) -> None:
        self.result, self.error, self.effects = result, None, effects

    def fail(self, error: Exception) -> None:
        self.result, self.error, self.effects = None, error, None


def deliver(batch: Sequence[Submitted], listener: Listener) -> None:
    """Answers whoever waits, then tells the listener of what is now durable."""
    for submitted in batch:
        if submitted.answer.done():
            continue
        if submitted.error is not None:
            submitted.answer.set_exception(submitted.error)
        else:
            submitted.answer.set_result(submitted.result)
    for submitted in batch:
        if submitted.effects is not None:
            tell(listener, submitted.effects.ready, submitted.effects.ended)
