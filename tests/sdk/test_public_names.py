"""What ``towline`` offers is told where people look: help() of each name says what it is."""

import inspect

import pytest

import towline

CLASSES = [name for name in towline.__all__ if inspect.isclass(getattr(towline, name))]


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_says_what_it_is(name: str) -> None:
    cls = getattr(towline, name)
    told = vars(cls).get("__doc__")
    assert told, f"help(towline.{name}) would tell of {cls.__base__} or of nothing"
    assert not told.startswith(f"{name}("), "made by dataclass"


def test_what_it_offers_is_sorted_and_named_once() -> None:
    assert sorted(set(towline.__all__)) == towline.__all__
