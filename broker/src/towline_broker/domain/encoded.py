"""Messages that are handled as bytes. The broker reads of them what it acts upon; a message object,
which costs several times what the bytes do, is made only for who wants to look into the rest."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

M = TypeVar("M")


class Encoded(Generic[M]):
    """``raw``: the bytes of a message, which ``parse`` can read: they were looked at before."""

    __slots__ = ("_message", "_parse", "raw")

    def __init__(self, raw: bytes, parse: Callable[[bytes], M]) -> None:
        self.raw = raw
        self._parse = parse
        self._message: M | None = None

    @property
    def message(self) -> M:
        """Always the same object."""
        if self._message is None:
            self._message = self._parse(self.raw)
        return self._message


def looked_into(message: Any) -> Any:
    """The message itself, of one that may be handled as its bytes."""
    return message.message if isinstance(message, Encoded) else message
