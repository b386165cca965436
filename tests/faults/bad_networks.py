"""What networks do to connections, one thing after the other and in random order."""

import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from tests.support.proxy import (
    BLACK_HOLE,
    Cut,
    Delay,
    End,
    Fault,
    Halve,
    Hold,
    LoseReplies,
    Proxy,
    Refuse,
    Way,
)

#: Seconds that a fault lasts, mostly few: what was cut is then repeated, and answered, before
#: anybody gives up; and seconds that the network is whole after it.
LASTS = (0.05, 2.0)
WHOLE = (0.1, 0.5)
#: Bytes that pass until a cut: from the first of a connection to those of some hundred calls.
PASSING = (0, 20_000)


#: How many are some.
SOME = 6


class BadTime(NamedTuple):
    name: str
    faults: Sequence[Fault]
    #: Connections that are open when it begins are cut.
    breaks_in: bool = False
    #: Connections that are open when it is over are cut.
    breaks_out: bool = False


BAD_TIMES = (
    BadTime("requests cut", [Cut(Way.REQUEST, *PASSING)]),
    BadTime("replies cut", [Cut(Way.REPLY, *PASSING)]),
    BadTime("replies cut in good order", [Cut(Way.REPLY, *PASSING, End.CLOSE)]),
    BadTime("replies lost", [LoseReplies()]),
    BadTime("requests late", [Delay(Way.REQUEST, 0.0, 0.2)]),
    BadTime("replies late", [Delay(Way.REPLY, 0.0, 0.2)]),
    BadTime("requests halved", [Halve(Way.REQUEST, 0.3, 0.1)]),
    BadTime("replies halved", [Halve(Way.REPLY, 0.3, 0.1)]),
    BadTime("requests cut in half", [Halve(Way.REQUEST, 0.05, None)]),
    BadTime("replies cut in half", [Halve(Way.REPLY, 0.05, None)]),
    BadTime("requests held", [Hold(Way.REQUEST)]),
    BadTime("replies held, then lost", [Hold(Way.REPLY)], breaks_out=True),
    BadTime("silence", BLACK_HOLE),
    BadTime("silence, then cut", BLACK_HOLE, breaks_out=True),
    BadTime("nobody listens", [Refuse()], breaks_in=True),
)


def bad_times(proxy: Proxy, rounds: int, chance: Random, between: Callable[[], None]) -> int:
    """Every one, so many times over (0: some of them, once); in ``between`` the network is whole.
    Returns how many."""
    planned = [each for _ in range(rounds) for each in chance.sample(BAD_TIMES, len(BAD_TIMES))]
    planned = planned or chance.sample(BAD_TIMES, SOME)
    for each in planned:
        proxy.fail(*each.faults)
        if each.breaks_in:
            proxy.cut_all()
        time.sleep(LASTS[0] * (LASTS[1] / LASTS[0]) ** chance.random())
        if each.breaks_out:
            proxy.cut_all()
        proxy.heal()
        time.sleep(chance.uniform(*WHOLE))
        between()
    return len(planned)
