"""Rights are for queues by name or by pattern, and an identity has no other."""

import time

import pytest

from towline_broker.domain.errors import PermissionDenied
from towline_broker.domain.identity import ANONYMOUS, Identity, Patterns, Right, Rights


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("emails", ["emails"], ["email", "emails2", "xemails", "emails.bulk", "Emails", ""]),
        ("emails.*", ["emails.", "emails.a", "emails.a.b"], ["emails", "xemails.a"]),
        ("*.bulk", [".bulk", "emails.bulk"], ["bulk", "emails.bulky"]),
        ("a*b*c", ["abc", "a-b-c", "abbbcc"], ["ab", "acb", "ac", "abcd"]),
        ("a*ba", ["aba", "aXba"], ["a", "ba", "ab"]),
        ("aa*aa", ["aaaa", "aaXaa"], ["aa", "aaa"]),
        ("a.c", ["a.c"], ["abc"]),
        ("[a-c]?", ["[a-c]?"], ["ab", "a"]),
        ("*", ["", "anything"], []),
    ],
)
def test_a_pattern_fits_as_it_is_written(
    pattern: str, fitting: list[str], others: list[str]
) -> None:
    patterns = Patterns([pattern])
    for _ in range(2):  # looked at, then remembered
        assert [name for name in fitting if not patterns.fit(name)] == []
        assert [name for name in others if patterns.fit(name)] == []


def test_no_pattern_takes_long() -> None:
    patterns = Patterns(["*a" * 60 + "b"])
    began = time.process_time()
    assert not patterns.fit("a" * 128)
    assert time.process_time() - began < 0.1


def test_what_was_looked_at_does_not_pile_up() -> None:
    patterns = Patterns(["emails.*"])
    for number in range(5_000):
        assert patterns.fit(f"emails.{number}")
        assert not patterns.fit("x" * 200 + str(number))
    assert len(patterns._known) <= 1_000


def test_a_right_for_one_queue_is_none_for_another() -> None:
    mailer = Identity("token:mailer", Rights.of(push=["emails.*"], work=["emails.in"]))
    assert mailer.may("emails.out", Right.PUSH)
    assert not mailer.may("emails.out", Right.WORK)
    assert not mailer.may("bills", Right.PUSH)
    assert not mailer.may_somewhere(Right.ADMIN)
    assert not mailer.may_everywhere(Right.PUSH)
    mailer.require("emails.in", Right.ADMIN, Right.WORK)
    with pytest.raises(
        PermissionDenied, match=r"token:mailer lacks the right work .*'emails\.out'"
    ):
        mailer.require("emails.out", Right.WORK)


def test_an_identity_of_the_same_name_holds_the_same_leases() -> None:
    one, rotated = Identity("token:a", Rights.of(work="*")), Identity("token:a", Rights.of())
    assert one.mark == rotated.mark
    assert one.mark not in (Identity("cert:a", Rights.of()).mark, "")


def test_a_broker_that_asks_nobody_lets_everybody_do_all() -> None:
    assert ANONYMOUS.may_everywhere(Right.ADMIN)
    assert ANONYMOUS.sight(Right.ADMIN) is None
    assert ANONYMOUS.mark == ""
