"""Percentiles of many times, with how many samples each stands on."""

import statistics
from collections.abc import Mapping, Sequence

from bench.results import Figure

#: A percentile with fewer samples of a round beyond it is made of those of all rounds together.
BEYOND = 10


def percentiles(
    run: str, who: str, shape: str, rounds: Sequence[Sequence[float]], cuts: Mapping[str, float]
) -> list[Figure]:
    """Of times from push to start, in milliseconds; ``cuts``: such as 0.99, by their names. The
    note says of how many samples each is."""
    pooled = [took for each in rounds for took in each]
    figures = []
    for name, cut in cuts.items():
        alone = all(len(each) * (1 - cut) >= BEYOND for each in rounds)
        sets = rounds if alone else [pooled]
        figures.append(
            Figure(
                *(run, who, f"Push to start, {name}", shape, "ms"),
                rounds=[_percentile(samples, cut) for samples in sets],
                note=f"{min(map(len, sets)):,} samples",
            )
        )
    return figures


def _percentile(samples: Sequence[float], cut: float) -> float:
    """Never beyond what was seen."""
    return statistics.quantiles(samples, n=1_000, method="inclusive")[round(cut * 1_000) - 1]
