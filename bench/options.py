"""How to measure, as it was asked for on the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.results import Figure

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    quick: bool
    stores: Sequence[str]
    rounds: int
    """Those that count; one before them warms up."""

    def pick(self, otherwise: T, *, quick: T) -> T:
        return quick if self.quick else otherwise

    def tell(self, figures: Sequence[Figure]) -> None:
        """Says how it goes: a line for each figure."""
        for figure in figures:
            low, high = figure.spread
            print(
                f"  {figure.run:16} {figure.who:34} {figure.what:22} {figure.shape:10}"
                f"{_short(figure.median):>10} {figure.unit:7} {_short(low)} to {_short(high)}",
                flush=True,
            )


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
