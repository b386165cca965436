"""P1 to P7, P9, Stats: connections that are cut, slow, halved or silent, between any two parts.

`make faults` does it for longer, with the figures on the screen.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.faults.bad_networks import BAD_TIMES, bad_times
from tests.faults.durable_stores import EMBEDDED, SHARED
from tests.faults.harness.assumptions import STRICT, Assumptions
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import MIXED
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Proxy
from tests.support.stores import with_options

#: How often everything happens that a network can do; 0: only some of it.
ROUNDS = size("NETWORK_ROUNDS", 0)
#: All seconds. That long a driver waits for an answer of its store.
STORE_TIMEOUT = 1
#: Work goes on so soon after the network is whole again.
BACK_SECONDS = 15.0
DRAIN_SECONDS = 60.0
#: What a claim has locked whose connection broke, its own repetition passes over until the database
#: has noticed; so do others.
ASSUMPTIONS = {
    "postgresql": Assumptions(order_slack=None),
    "mariadb": Assumptions(order_slack=None),
    "redis": STRICT,
    "valkey": STRICT,
}
LONGEST = max(ROUNDS, 1) * len(BAD_TIMES) * (2.0 + BACK_SECONDS)
HABITS = replace(MIXED, pause=0.05)
#: A plain test run leaves out what differs little from these.
EMBEDDED_KINDS = list(EMBEDDED) if ROUNDS else ["file"]
SHARED_KINDS = list(SHARED) if ROUNDS else ["postgresql", "redis"]


@pytest.mark.parametrize("kind", EMBEDDED_KINDS)
@pytest.mark.timeout(90 + DRAIN_SECONDS + LONGEST)
def test_every_promise_is_kept_on_a_bad_network_between_clients_and_broker(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with (
        EMBEDDED[kind](tmp_path) as store,
        BrokerProcess(store.url, folder=tmp_path) as broker,
        Proxy(broker.address, seed=seed()) as proxy,
        Load(
            [proxy.address],
            tmp_path,
            seed=seed(),
            habits=HABITS,
            admin_addresses=[broker.address],
        ) as load,
    ):
        count = bad_times(proxy, ROUNDS, Random(seed()), lambda: goes_on(load))
        verdict = load.finish(DRAIN_SECONDS)
        cuts = proxy.figures().cuts
    figures.prove(
        f"bad network between clients and broker, {kind}", verdict, bad_times=count, cuts=cuts
    )


@pytest.mark.parametrize("kind", SHARED_KINDS)
@pytest.mark.timeout(90 + DRAIN_SECONDS + LONGEST)
def test_every_promise_is_kept_on_a_bad_network_between_broker_and_store(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with SHARED[kind](tmp_path) as store, Proxy.to_store(store.url, seed=seed()) as proxy:
        url = with_options(proxy.behind(store.url), f"timeout={STORE_TIMEOUT}")
        with (
            BrokerProcess(url, folder=tmp_path) as broker,
            Load([broker.address], tmp_path, seed=seed(), habits=HABITS) as load,
        ):
            count = bad_times(proxy, ROUNDS, Random(seed()), lambda: goes_on(load))
            verdict = load.finish(DRAIN_SECONDS, ASSUMPTIONS[kind])
        cuts = proxy.figures().cuts
    figures.prove(
        f"bad network between broker and store, {kind}", verdict, bad_times=count, cuts=cuts
    )


def goes_on(load: Load) -> None:
    load.wait_for_acknowledged(1, BACK_SECONDS)
