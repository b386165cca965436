"""Leaving out what a store declares that it cannot do."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import pytest

from towline_broker.domain.errors import NotSupported
from towline_broker.drivers.interface import Driver, Feature

Test = TypeVar("Test", bound=Callable[..., Any])

_NEEDS = "needed_features"


def needs(*features: Feature) -> Callable[[Test], Test]:
    """Marks a test that is not for stores without one of the features.

    To be used where such a store may do something else. Where it raises NotSupported, the test is
    left out without a mark.
    """

    def mark(test: Test) -> Test:
        setattr(test, _NEEDS, features)
        return test

    return mark


def skip_unless_offered(test: object, driver: Driver) -> None:
    for feature in getattr(test, _NEEDS, ()):
        if feature in driver.capabilities.missing:
            skip_for(feature)


def skip_for(feature: str) -> None:
    pytest.skip(f"this store declares that it has no {feature}")


def skipping(driver: Driver) -> Driver:
    """The driver, but a test that comes to something that is declared as missing is skipped."""
    return cast(Driver, _Skipping(driver))


class _Skipping:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._driver, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._unless_missing(found(*arguments, **named))

        return call

    async def _unless_missing(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except NotSupported as refused:
            if refused.what in self._driver.capabilities.missing:
                skip_for(refused.what)
            raise
