"""At sync:// a job is refused when a broker refuses it, by the same field."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from towline import Client, Exponential, InvalidArgument, InvalidJob, Registry, job
from towline.errors import TowlineError

registry = Registry()


@job(registry=registry)
def nothing() -> None:
    pass


DAY = 86400
YEARS = 11 * 366 * DAY


def refusal(address: str, options: dict[str, Any]) -> tuple[type[TowlineError], list[str]] | None:
    with Client(address) as client:
        try:
            client.dispatch(nothing.job(), **options)
        except InvalidArgument as error:
            return InvalidArgument, [violation.field for violation in error.violations]
        except InvalidJob:
            return InvalidJob, []
    return None


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "q" * 128},
        {"queue": "q" * 129},
        {"headers": {"k" * 128: ""}},
        {"headers": {"k" * 129: ""}},
        {"headers": {"": "v"}},
        {"headers": {"k": "v" * 9000}},
        {"unique_key": "k" * 256},
        {"unique_key": "k" * 257},
        {"unique_for": 5},
        {"unique_key": "k", "unique_for": 367 * DAY},
        {"delay": 3653 * DAY},
        {"delay": YEARS},
        {"delay": timedelta.max},
        {"at": datetime(9999, 1, 1, tzinfo=UTC)},
        {"expires_in": YEARS},
        {"timeout": 366 * DAY},
        {"timeout": 367 * DAY},
        {"retention": 367 * DAY},
        {"backoff": [1, 367 * DAY]},
        {"backoff": [1] * 100, "max_attempts": 1000},
        {"backoff": [1] * 101},
        {"max_attempts": 1001},
        {"backoff": Exponential(multiplier=101)},
        {"queue": "q" * 129, "timeout": 367 * DAY, "unique_key": "k" * 257},
    ],
    ids=lambda options: " ".join(f"{key}={str(value)[:20]}" for key, value in options.items()),
)
def test_what_a_broker_refuses_is_refused_here(options: dict[str, Any]) -> None:
    told = refusal("sync://", options)
    by_broker = refusal("memory://admission", options)
    if told is not None and by_broker is not None:
        assert (told[0], sorted(told[1])) == (by_broker[0], sorted(by_broker[1]))
    assert (told is None) == (by_broker is None)
