"""The contract suite: checks that a driver keeps the promises of Towline.

Whoever writes a driver runs it in a few lines::

    from towline_broker.testing import DurableDriverContract, Harness, NewHarness

    class MyHarness(Harness):
        persists = True

        def __init__(self, place: Path) -> None:
            self.place = place

        def driver(self) -> Driver:
            return create_driver(f"mystore://{self.place}")

    class TestMyDriver(DurableDriverContract):
        @pytest.fixture
        def new_harness(self, tmp_path_factory: pytest.TempPathFactory) -> NewHarness:
            return lambda: MyHarness(tmp_path_factory.mktemp("store"))

:class:`DriverContract` is for stores that end with their driver, :class:`DurableDriverContract` for
those that outlive it and have one owner, :class:`SharedDriverContract` for those that several
brokers use at a time, :class:`BoundedDriverContract` for a store that is full soon, and
:func:`check_at_random` plays random operations against a model of what a driver owes. (The
environment variable TOWLINE_CONTRACT_EXAMPLES says how many examples; TOWLINE_CONTRACT_REPORT names
a file to which it adds how many it has played.)

For a shared store, ``Harness.driver`` is called while other drivers are open: each call gives one
more, as another broker would open it. Every driver is handed the tests' time, some years ago; only
``open`` and ``time`` answer with the store's own. A listener is to be told exactly once of what its
own driver did, before the call returns, and soon of what another one did.

A driver whose capabilities name something as missing is held to the rest: a test that comes to it,
that is, to NotSupported with its name, is skipped. Random operations keep to what is offered.

Needs pytest, pytest-asyncio (with ``asyncio_mode = "auto"``) and Hypothesis: the extra ``testing``.
Tests move the clock themselves: none of them sleeps, but those that wait for news from another
broker. The number in a test's name is that of the promise it shows, as listed in the documentation.
"""

# ruff: noqa: E402 - pytest explains a failed assertion only in modules that it is told of before
# they are imported.
import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "accounts",
            "comparisons",
            "contract_copies",
            "contract_dead",
            "contract_outgoing",
            "contract_push",
            "contract_queues",
            "contract_races",
            "contract_receive",
            "contract_reopen",
            "contract_reserve",
            "contract_sealing",
            "contract_settle",
            "contract_shared",
            "contract_upkeep",
            "heard",
            "state_machine",
            "store",
        )
    )
)

from towline_broker.testing.contract import (
    BoundedDriverContract,
    DriverContract,
    DurableDriverContract,
    SharedDriverContract,
)
from towline_broker.testing.factories import new_id, new_job, new_jobs
from towline_broker.testing.harness import Harness, NewHarness
from towline_broker.testing.state_machine import check_at_random
from towline_broker.testing.store import Store

__all__ = [
    "BoundedDriverContract",
    "DriverContract",
    "DurableDriverContract",
    "Harness",
    "NewHarness",
    "SharedDriverContract",
    "Store",
    "check_at_random",
    "new_id",
    "new_job",
    "new_jobs",
]
