"""Totals, as far as this broker has seen them; those of all brokers nobody keeps."""

from dataclasses import replace

from towline_broker.domain.jobs import Counts, Depth, Totals


class Tally:
    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], Totals] = {}

    def of(self, queue: str, type_: str) -> Totals:
        """To be counted on."""
        totals = self._totals.get((queue, type_))
        if totals is None:
            totals = self._totals[queue, type_] = Totals()
        return totals

    def counts(self) -> list[Counts]:
        return [
            Counts(queue, type_, Depth(), replace(totals))
            for (queue, type_), totals in sorted(self._totals.items())
        ]

    def reset(self) -> None:
        for key in self._totals:
            self._totals[key] = Totals()
