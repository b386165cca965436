"""Running generators around a call: each is a layer, entered before the call and left after it.

What came of the call passes through the layers from the innermost to the outermost, and each may
change it. The two ways to run them differ in ``await`` alone.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import Any

from towline.calls import Raised, Result, Returned, capture
from towline.middleware.interface import MiddlewareError
from towline.middleware.shapes import Wrapper


def run(wrappers: Sequence[Wrapper], arguments: Sequence[Any], call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns, or raise what it raises, as the generators around it see it."""
    entered: list[Layer] = []
    result: Result | None = None
    for wrapper in wrappers:
        layer = Layer(wrapper, arguments)
        if (result := layer.enter()) is not None:
            break
        entered.append(layer)
    if result is None:
        result = capture(call)
    for layer in reversed(entered):
        result = layer.leave(result)
    return result.unwrap()


async def run_async(
    wrappers: Sequence[Wrapper], arguments: Sequence[Any], call: Callable[[], Awaitable[Any]]
) -> Any:
    """``run`` on a loop, where async generators may be among the layers."""
    entered: list[Layer | AsyncLayer] = []
    result: Result | None = None
    for wrapper in wrappers:
        layer = AsyncLayer(wrapper, arguments) if wrapper.is_async else Layer(wrapper, arguments)
        result = await layer.enter() if isinstance(layer, AsyncLayer) else layer.enter()
        if result is not None:
            break
        entered.append(layer)
    if result is None:
        result = await _capture_call(call)
    for layer in reversed(entered):
        if isinstance(layer, AsyncLayer):
            result = await layer.leave(result)
        else:
            result = layer.leave(result)
    return result.unwrap()


async def _capture_call(call: Callable[[], Awaitable[Any]]) -> Result:
    try:
        return Returned(await call())
    except GeneratorExit:  # the loop is gone: nothing can be awaited any more
        raise
    except BaseException as error:
        return Raised(error)


class Layer:
    """One plain generator around one call."""

    def __init__(self, wrapper: Wrapper, arguments: Sequence[Any]) -> None:
        self._name = wrapper.name
        self._generator: Generator[object, Any, Any] = wrapper.function(*arguments)

    def enter(self) -> Result | None:
        """Run up to the yield. A result means that there was none: the call is skipped."""
        try:
            yielded = next(self._generator)
        except StopIteration as stop:
            return Returned(stop.value)
        except BaseException as error:
            return Raised(error)
        if yielded is not None:
            return self._misused(_yields_something(self._name))
        return None

    def leave(self, result: Result) -> Result:
        """Hand in what came of the call; return what the generator makes of it."""
        kept = _Kept(result)
        try:
            if isinstance(result, Raised):
                self._generator.throw(result.error)
            else:
                self._generator.send(result.value)
        except StopIteration as stop:
            return kept.returned(stop.value)
        except BaseException as error:
            return kept.raised(error)
        return self._misused(_yields_twice(self._name))

    def _misused(self, error: MiddlewareError) -> Result:
        try:
            self._generator.close()
        except BaseException as raised:
            error.__cause__ = raised
        return Raised(error)


class AsyncLayer:
    """One async generator around one call."""

    def __init__(self, wrapper: Wrapper, arguments: Sequence[Any]) -> None:
        self._name = wrapper.name
        self._generator: AsyncGenerator[object, Any] = wrapper.function(*arguments)

    async def enter(self) -> Result | None:
        try:
            yielded = await anext(self._generator)
        except StopAsyncIteration:
            return Returned(None)
        except GeneratorExit:
            raise
        except BaseException as error:
            return Raised(error)
        if yielded is not None:
            return await self._misused(_yields_something(self._name))
        return None

    async def leave(self, result: Result) -> Result:
        kept = _Kept(result)
        try:
            if isinstance(result, Raised):
                await self._generator.athrow(result.error)
            else:
                await self._generator.asend(result.value)
        except StopAsyncIteration:
            return kept.returned(None)
        except GeneratorExit:
            raise
        except BaseException as error:
            return kept.raised(error)
        return await self._misused(_yields_twice(self._name))

    async def _misused(self, error: MiddlewareError) -> Result:
        try:
            await self._generator.aclose()
        except GeneratorExit:
            raise
        except BaseException as raised:
            error.__cause__ = raised
        return Raised(error)


class _Kept:
    """A result on its way through a generator, which mostly leaves it as it is."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._traceback = result.error.__traceback__ if isinstance(result, Raised) else None

    def returned(self, value: Any) -> Result:
        if value is None and isinstance(self._result, Returned):
            return self._result
        return Returned(value)

    def raised(self, error: BaseException) -> Result:
        if not isinstance(self._result, Raised):
            return Raised(error)
        thrown = self._result.error
        # A generator cannot pass these two on: Python makes a RuntimeError of them.
        if isinstance(thrown, (StopIteration, StopAsyncIteration)) and error.__cause__ is thrown:
            error = thrown
        if error is thrown:
            # Without the line of each yield that it passed, which says nothing of where it arose.
            thrown.__traceback__ = self._traceback
            return self._result
        return Raised(error)


def _yields_something(name: str) -> MiddlewareError:
    return MiddlewareError(f"{name} yields a value, of which nothing is made: write a bare `yield`")


def _yields_twice(name: str) -> MiddlewareError:
    return MiddlewareError(f"{name} yields a second time, and there is but one call to run")
