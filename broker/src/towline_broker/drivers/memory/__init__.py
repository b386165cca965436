"""Jobs in memory: for development and tests, and the engine of stores that keep a journal."""

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.memory.driver import MemoryDriver
from towline_broker.drivers.memory.engine import Engine
from towline_broker.drivers.registry import parse_url
from towline_broker.drivers.urls import shown_url

__all__ = ["Engine", "MemoryDriver", "open_memory"]

DEFAULT_MAX_BYTES = 1 << 30


def open_memory(url: str) -> MemoryDriver:
    """``memory:`` or ``memory:?max_bytes=N``: push is refused once the store takes about N bytes of
    memory (1 GiB unless given).

    Raises StoreRefused if the url says anything else.
    """
    shown = repr(shown_url(url))
    parsed = parse_url(url, options=("max_bytes",))
    if parsed.place:
        raise StoreRefused(f"{shown}: a memory store has no place; write memory: alone")
    text = parsed.options.get("max_bytes", str(DEFAULT_MAX_BYTES))
    if not (text.isascii() and text.isdigit() and 0 < len(text) < 19 and int(text) > 0):
        raise StoreRefused(f"{shown}: max_bytes is {text!r}, and must be a whole number above 0")
    return MemoryDriver(Engine(max_bytes=int(text)))
