"""Jobs for tests: everything has a default, and each job an id of its own."""

import itertools
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from towline_broker.domain.jobs import Failure, NewJob
from towline_broker.domain.time import MINUTE, SECOND, Micros

#: When the tests begin.
START: Micros = 1_700_000_000 * SECOND
LEASE: Micros = 30 * SECOND
#: How long the tests have the settle memory kept.
WINDOW: Micros = 10 * MINUTE

BOOM = Failure("ValueError", "no such customer: Łukasz 😀", "Traceback …\nValueError", START)

_numbers = itertools.count(1)


def new_id() -> str:
    """A UUID that no call gave before, in the order of the calls."""
    return numbered_id(next(_numbers))


def numbered_id(number: int) -> str:
    """The same UUID for the same number."""
    return str(UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number))


def new_job(queue: str = "q", **fields: Any) -> NewJob:
    """A job of type "T"; any field of NewJob can be given."""
    given = {"id": new_id(), "type": "T", "envelope": b"payload", **fields}
    return NewJob(queue=queue, **given)


def new_jobs(count: int, queue: str = "q", **fields: Any) -> Sequence[NewJob]:
    return [new_job(queue, **fields) for _ in range(count)]
