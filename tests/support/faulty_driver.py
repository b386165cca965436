"""A driver whose methods a test can hold up or make fail."""

import asyncio
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from msgspec.structs import replace

from towline_broker.drivers.interface import Capabilities, Driver
from towline_broker.drivers.registry import create_driver


class FaultyDriver:
    """Passes everything on to another driver (jobs in memory unless given).

    ``errors``: raised by the method of that name in place of doing anything. ``gates``: the method
    has done its work, and returns when the event is set.
    """

    def __init__(self, inner: Driver | None = None) -> None:
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        #: Set when a method has come to its gate.
        self.reached: dict[str, asyncio.Event] = {}
        self._inner = inner or create_driver("memory:")

    @property
    def driver(self) -> Driver:
        return cast(Driver, self)

    def hold(self, method: str) -> None:
        """From here on the method does its work, but does not return before :meth:`let_go`."""
        self.gates[method] = asyncio.Event()
        self.reached[method] = asyncio.Event()

    def let_go(self, method: str) -> None:
        self.gates.pop(method).set()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        return self._faulty(name, attribute) if iscoroutinefunction(attribute) else attribute

    def _faulty(self, name: str, method: Callable[..., Any]) -> Any:
        async def call(*arguments: Any) -> Any:
            if name in self.errors:
                raise self.errors[name]
            result = await method(*arguments)
            gate = self.gates.get(name)
            if gate is not None:
                self.reached[name].set()
                await gate.wait()
            return result

        return call


class SlowDriver(FaultyDriver):
    """Does not say that it answers at once, so that calls of it are joined."""

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._inner.capabilities, answers_at_once=False)
