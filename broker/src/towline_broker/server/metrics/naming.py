"""Which queues and types are named in the figures: a bounded number of them."""

from collections.abc import Iterable

from towline_broker.server.metrics.families import OTHERS


class Names:
    """The first ``most`` that are met keep their name for as long as this process runs, so that a
    time series never changes its meaning; all others are counted together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: dict[str, str] = {}

    def meet(self, names: Iterable[str]) -> None:
        """In the order of the alphabet, so that brokers which start on a store name the same."""
        room = self._most - len(self._named)
        if room > 0:
            for name in sorted({name for name in names if name} - self._named.keys())[:room]:
                self._named[name] = name

    def names(self, name: str) -> bool:
        return name in self._named

    def label(self, name: str) -> str:
        return self._named.get(name, OTHERS)
