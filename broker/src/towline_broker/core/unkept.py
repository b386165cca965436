"""Options of queues that the store which would keep the queue does not offer."""

from collections.abc import Iterator, Mapping

from towline_broker.core.queue_options import FOREVER, QueueOptions
from towline_broker.core.routing import Routes, is_pattern, overlap, rank
from towline_broker.domain.names import fits
from towline_broker.drivers.interface import Capabilities, Feature

#: An option, what a store needs for it, and what to set where it shall not apply.
_NEEDS = (
    ("retention", Feature.RETENTION, "0"),
    ("dead_letters", Feature.DEAD_LETTERS, "true"),
    ("dead_letter_retention", Feature.DEAD_LETTERS, '"forever"'),
)
_EVERY = "*"


def unkept(
    options: Mapping[str, QueueOptions], routes: Routes, stores: Mapping[str, Capabilities]
) -> Iterator[str]:
    """For each option that could come to a queue whose store does not offer it, the place of the
    option, the store, and the way out."""
    for option, feature, instead in _NEEDS:
        set_under = {name: getattr(each, option) for name, each in options.items()}
        set_under = {name: value for name, value in set_under.items() if value is not None}
        for name, value in set_under.items():
            if not _asks(option, value):
                continue
            for route, store in _routes(routes):
                lacks = feature in stores[store].missing
                if lacks and _meet(name, set_under, route, dict(_routes(routes))):
                    yield (
                        f'queues."{name}".{option}: store {store!r} (of the kind '
                        f"{stores[store].name}) does not offer {feature.value}; name other queues, "
                        f"or set {option} = {instead} for those that are kept there"
                    )


def _asks(option: str, value: object) -> bool:
    """Whether it asks for something that a store could lack."""
    if option == "dead_letters":
        return value is False
    return value not in (0, FOREVER)


def _routes(routes: Routes) -> list[tuple[str, str]]:
    """Names and patterns with their stores; that of all other queues as a pattern, too."""
    return [*({_EVERY: routes.default} | dict(routes.patterns) | dict(routes.exact)).items()]


def _meet(
    name: str, set_under: Mapping[str, object], route: str, routes: Mapping[str, str]
) -> bool:
    """Whether a queue can have the option from ``name`` and its store from ``route``."""
    if not _fit_both(name, route):
        return False
    otherwise_set = any(rank(each) > rank(name) and _covers(each, route) for each in set_under)
    elsewhere = any(rank(each) > rank(route) and _covers(each, name) for each in routes)
    return not otherwise_set and not elsewhere


def _fit_both(one: str, other: str) -> bool:
    if is_pattern(one) and is_pattern(other):
        return overlap(one, other)
    return _covers(one, other) or _covers(other, one)


def _covers(pattern: str, other: str) -> bool:
    """Whether every queue that fits ``other`` fits ``pattern``: each ``*`` of the one takes up
    what those of the other stand for."""
    return fits(pattern, other)
