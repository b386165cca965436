"""What holds for the drivers in every test of the contract."""

import math

import pytest

from towline_broker.drivers.sql.shared import heads


@pytest.fixture(autouse=True)
def looks_begin_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a look at an index may count as slow. What another broker has put in front
    is then found a little later, which no model of the store foretells."""
    monkeypatch.setattr(heads, "SLOW", math.inf)
