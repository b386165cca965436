"""Lease tokens: how a grant of a job is named on the wire.

Opaque to clients. A token carries the queue, so that any broker finds the store and the place in
it from the token alone, a random part, so that it cannot be guessed, and a mark of the identity
that holds the lease, if the broker asks callers who they are.
"""

import os
import re
import secrets
from collections.abc import Sequence
from functools import partial

from towline_broker.domain.jobs import LeaseRef

_FORM = (
    r"([A-Za-z0-9][A-Za-z0-9._:-]{0,127})"
    r"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"/([A-Za-z0-9_-]{1,64})"
)
#: As LeaseRef._make, which is a function of Python's.
_new_ref = partial(tuple.__new__, LeaseRef)
_TOKEN = re.compile(_FORM)
_LINE = re.compile(f"^{_FORM}$", re.MULTILINE)

#: Characters of a grant before the mark.
_RANDOM = 12


#: Random parts that were drawn, each for one grant: to ask the kernel for one costs as much as for
#: all of these.
_drawn: list[str] = []
_DRAW = 256
# Two processes that go on from the same list would give two grants the same name.
os.register_at_fork(after_in_child=_drawn.clear)


def new_grant(mark: str = "") -> str:
    """72 random bits, and behind them the mark of the identity that it is for, if there is one."""
    try:
        return _drawn.pop() + mark
    except IndexError:  # not looked for before: brokers in two threads may want the last one
        text = secrets.token_urlsafe(9 * _DRAW)
        drawn = [text[at : at + _RANDOM] for at in range(0, len(text), _RANDOM)]
        grant = drawn.pop()
        _drawn.extend(drawn)
        return grant + mark


def is_for(ref: LeaseRef, mark: str) -> bool:
    """Whether the identity with this mark may settle the lease; one without a mark may settle any.
    Nobody can make up a mark: the store compares the grant as a whole. A grant without one is for
    whoever has the token: the broker knew nobody by name when it gave it."""
    return not mark or ref.grant[_RANDOM:] in ("", mark)


def encode(ref: LeaseRef) -> str:
    return ref.job_id.join(around_id(ref.queue, ref.grant))


def around_id(queue: str, grant: str) -> tuple[str, str]:
    """What stands in a token before the job's id and behind it: the same for all jobs of a queue
    and a grant."""
    return f"{queue}/", f"/{grant}"


def decode(token: str) -> LeaseRef | None:
    """None: not a token of ours."""
    match = _TOKEN.fullmatch(token)
    return LeaseRef(*match.groups()) if match else None


def decode_all(tokens: Sequence[bytes]) -> list[LeaseRef] | None:
    """Many in one go, as lines of a text. None: one of them is not a token of ours."""
    lines = b"\n".join(tokens)
    found = _LINE.findall(lines.decode("latin-1"))
    if len(found) != len(tokens) or lines.count(b"\n") != len(tokens) - 1:
        return None
    return list(map(_new_ref, found))
