"""Which store a queue is at home in."""

from fnmatch import fnmatchcase
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline_broker.core.routing import Routes, ambiguous


def test_without_routes_every_queue_is_in_the_default_store() -> None:
    assert Routes().store_of("emails") == "default"
    assert Routes("main").store_of("emails") == "main"


def test_a_name_counts_before_every_pattern() -> None:
    routes = Routes(exact={"emails.eu": "exact"}, patterns=[("emails.e*", "pattern")])
    assert routes.store_of("emails.eu") == "exact"
    assert routes.store_of("emails.es") == "pattern"
    assert routes.store_of("emails.us") == "default"


def test_the_pattern_with_more_before_its_star_counts_in_whatever_order_they_are_given() -> None:
    for order in permutations(["*", "em*", "emails.*", "emails.*.eu", "*.eu"]):
        routes = Routes(patterns=[(pattern, pattern) for pattern in order])
        assert routes.store_of("emails.big.us") == "emails.*"
        assert routes.store_of("emails.big.eu") == "emails.*.eu"
        assert routes.store_of("emperors") == "em*"
        assert routes.store_of("reports.eu") == "*.eu"
        assert routes.store_of("reports") == "*"


def test_a_pattern_means_its_letters_and_nothing_else() -> None:
    routes = Routes(patterns=[("a.b-*", "one"), ("a*b*c", "two")])
    assert routes.store_of("a.b-") == "one"
    assert routes.store_of("axb-1") == "default"
    assert routes.store_of("a.b") == "default"
    assert routes.store_of("abc") == "two"
    assert routes.store_of("acb") == "default"
    assert routes.store_of("xabc") == "default"


def test_two_patterns_of_which_neither_comes_first_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'a\*x\*c' and 'a\*y\*c'"):
        Routes(patterns=[("a*x*c", "one"), ("b*", "two"), ("a*y*c", "three")])
    Routes(patterns=[("a*x", "one"), ("a*y", "two"), ("b*x", "three")])


PATTERNS = st.text("ab*", min_size=1, max_size=6).filter(lambda text: "*" in text)


@given(st.sets(PATTERNS, max_size=5), st.text("ab", max_size=8))
def test_a_name_never_fits_two_patterns_that_were_let_pass_and_are_equal(
    patterns: set[str], name: str
) -> None:
    if ambiguous(patterns):
        return
    routes = Routes(patterns=[(pattern, pattern) for pattern in patterns])
    fitting = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
    chosen = routes.store_of(name)
    if not fitting:
        assert chosen == "default"
        return
    ranks = sorted((len(p.partition("*")[0]), len(p.replace("*", "")), p) for p in fitting)
    assert chosen == ranks[-1][2]
    # "**" says what "*" says, and is told apart from it by nobody.
    assert len({rank[:2] for rank in ranks}) == len(ranks)
