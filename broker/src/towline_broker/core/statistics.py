"""How long jobs wait and run: distributions per queue and type."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from towline_broker.core.calls import NO_TIMING, Timing
from towline_broker.domain.jobs import Leased
from towline_broker.domain.pieces import pieces
from towline_broker.domain.time import Micros

_SUB_BITS = 4
_SUB_BUCKETS = 1 << _SUB_BITS


class Histogram:
    """Counts in buckets of about 6 % width, so a percentile is right to about 3 %.

    The buckets are those of HdrHistogram: a power of two, split evenly into 16.
    """

    __slots__ = ("_buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total: Micros = 0
        self._buckets: dict[int, int] = {}

    def add(self, value: Micros, times: int = 1) -> None:
        self.count += times
        self.total += value * times
        shift = max(0, value.bit_length() - _SUB_BITS - 1)
        bucket = (shift << _SUB_BITS) + (value >> shift)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + times

    def merge(self, other: "Histogram") -> None:
        self.count += other.count
        self.total += other.total
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def up_to(self, bounds: Sequence[Micros]) -> list[int]:
        """How many are at most so long as each bound, of bounds in rising order."""
        counts = [0] * (len(bounds) + 1)
        for bucket, count in self._buckets.items():
            counts[bisect_left(bounds, _longest(bucket))] += count
        return list(accumulate(counts[:-1]))

    def timing(self) -> Timing:
        if self.count == 0:
            return NO_TIMING
        p50, p95, p99 = self._percentiles((0.50, 0.95, 0.99))
        return Timing(self.count, self.total // self.count, p50, p95, p99)

    def _percentiles(self, shares: Sequence[float]) -> list[Micros]:
        found: list[Micros] = []
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            while len(found) < len(shares) and seen >= shares[len(found)] * self.count:
                found.append(_middle(bucket))
        return found


def _longest(bucket: int) -> Micros:
    shift = max(0, (bucket >> _SUB_BITS) - 1)
    return ((bucket - (shift << _SUB_BITS) + 1) << shift) - 1


def _middle(bucket: int) -> Micros:
    """The middle of a bucket's range; see :meth:`Histogram.add` for its number."""
    shift = max(0, (bucket >> _SUB_BITS) - 1)
    lowest = (bucket - (shift << _SUB_BITS)) << shift
    return lowest + ((1 << shift) >> 1)


QueueHistograms = Mapping[str, Sequence[Histogram]]


@dataclass(frozen=True, slots=True)
class Times:
    wait: Timing = NO_TIMING
    processing: Timing = NO_TIMING


class Timings:
    """Wait and processing times since this process started or :meth:`reset` was called."""

    #: Pairs of queue and type that are kept apart; any further ones are counted together.
    MOST = 10_000

    def __init__(self) -> None:
        self._wait: dict[tuple[str, str], Histogram] = {}
        self._processing: dict[tuple[str, str], Histogram] = {}

    def started(self, leases: Sequence[Leased], now: Micros) -> None:
        if len(leases) == 1:
            (each,) = leases
            self._of(self._wait, (each.ref.queue, each.type)).add(max(0, now - each.ready_at))
            return
        # Jobs that came together and are leased together have waited equally long.
        alike = _counted([(each.ref.queue, each.type, each.ready_at) for each in leases])
        for (queue, job_type, ready_at), times in alike.items():
            self._of(self._wait, (queue, job_type)).add(max(0, now - ready_at), times)

    def processed(self, ended: Sequence[tuple[str, str, Micros]]) -> None:
        """Each a queue, a type, and the time from lease to settle."""
        if len(ended) == 1:
            ((queue, job_type, elapsed),) = ended
            self._of(self._processing, (queue, job_type)).add(max(0, elapsed))
            return
        for (queue, job_type, elapsed), times in _counted(ended).items():
            self._of(self._processing, (queue, job_type)).add(max(0, elapsed), times)

    def reset(self) -> None:
        self._wait.clear()
        self._processing.clear()

    async def grouped(self, group: Callable[[str, str], str | None]) -> dict[str, "Times"]:
        """Merged by what ``group`` makes of queue and type; None leaves a pair out."""
        waits = await _merged(self._wait, group)
        processings = await _merged(self._processing, group)
        times: dict[str, Times] = {}
        async for names in pieces([*waits.keys() | processings.keys()]):
            for name in names:
                times[name] = Times(
                    waits[name].timing() if name in waits else NO_TIMING,
                    processings[name].timing() if name in processings else NO_TIMING,
                )
        return times

    def by_queue(self) -> "tuple[QueueHistograms, QueueHistograms]":
        """Waiting and processing: for each queue the histograms of its types. Pairs that could not
        be kept apart stand under the queue ""."""
        return _by_queue(self._wait), _by_queue(self._processing)

    def _of(self, histograms: dict[tuple[str, str], Histogram], key: tuple[str, str]) -> Histogram:
        found = histograms.get(key)
        if found is None:
            if len(histograms) >= self.MOST:
                key = ("", "")
            found = histograms.setdefault(key, Histogram())
        return found


def _counted(kinds: Sequence[tuple[str, str, Micros]]) -> Mapping[tuple[str, str, Micros], int]:
    """How many there are of each. (Those of one call are mostly alike, and compared in a third of
    the time that it takes to count them.)"""
    alike = bool(kinds) and kinds.count(kinds[0]) == len(kinds)
    return {kinds[0]: len(kinds)} if alike else Counter(kinds)


def _by_queue(histograms: dict[tuple[str, str], Histogram]) -> "QueueHistograms":
    found: dict[str, list[Histogram]] = {}
    for (queue, _), histogram in histograms.items():
        found.setdefault(queue, []).append(histogram)
    return found


async def _merged(
    histograms: dict[tuple[str, str], Histogram], group: Callable[[str, str], str | None]
) -> dict[str, Histogram]:
    merged: dict[str, Histogram] = {}
    async for piece in pieces(list(histograms.items())):
        for (queue, job_type), histogram in piece:
            name = group(queue, job_type)
            if name is not None:
                merged.setdefault(name, Histogram()).merge(histogram)
    return merged
