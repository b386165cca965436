"""A percentile stands on enough samples, and says on how many."""

from bench.percentiles import percentiles
from bench.report.tables import of_part
from bench.results import Part, Results

CUTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def test_what_too_few_samples_of_a_round_lie_beyond_is_of_all_rounds_together() -> None:
    # One slow job in the first of five rounds, and ten in the second.
    quick = [1.0] * 990
    rounds = [quick + [1.0] * 9 + [9.0], quick + [9.0] * 10, *([quick + [1.0] * 10] * 3)]
    middle, tail, far = percentiles("file", "raw client", "alone", rounds, CUTS)
    assert list(middle.rounds) == [1.0] * 5
    assert len(tail.rounds) == 5
    assert (middle.note, tail.note) == ("1,000 samples", "1,000 samples")
    assert list(far.rounds) == [9.0], "11 of 5,000 were as slow"
    assert far.note == "5,000 samples"
    part = Part("start", "abc1234", "2 cores", "today", False, [middle, tail, far])
    assert "| file | raw client | alone | 1.00 | 1.00 | 9.00 | 5,000 samples |" in of_part(
        Results([part]), part
    )


def test_no_percentile_is_beyond_what_was_seen() -> None:
    (tail,) = percentiles("file", "raw client", "idle", [[1.0, 2.0, 3.0]], {"p99": 0.99})
    assert 2.9 < tail.median <= 3.0
    assert tail.note == "3 samples"
