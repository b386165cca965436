"""Which share of the echo the processor allows, by what each side takes of it for a job."""

from dataclasses import dataclass

from bench.results import Part

BESIDE = ("clients of the broker", "server of the store")


@dataclass(frozen=True)
class Bound:
    """All sides share the same cores. So if these were never idle, the share of the echo would be
    what the empty server and its clients take, of what the broker, its clients and the server of
    its store take."""

    ours: float
    """µs a job of our code in the broker, without what it costs to be looked at."""
    share: float
    alone: float
    """The share if our code took nothing, and all else what it takes now."""


def bound(part: Part, store: str, what: str, shape: str) -> Bound | None:
    """None if the part has not all that it takes."""

    def of(who: str) -> float | None:
        figure = part.find(store, who, what, shape)
        return figure.median if figure else None

    empty, its_clients, broker = of("empty server"), of("its clients"), of("whole broker")
    looked_at, ours_looked_at = of("broker under py-spy"), of("of it ours")
    if not (empty and its_clients and broker and looked_at and ours_looked_at):
        return None
    ours = broker * ours_looked_at / looked_at
    least = empty + its_clients
    whole = broker + sum(of(who) or 0.0 for who in BESIDE)
    return Bound(ours, least / whole, least / (whole - ours))
