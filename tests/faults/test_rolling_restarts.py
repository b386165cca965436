"""P1 to P7, Stats: brokers that are restarted one by one under load lose and double nothing; and
where three share a store, no call fails that may be repeated.

`make faults` goes round many times over every store; a plain test run once, over some.
"""

from pathlib import Path

import pytest

from tests.faults.durable_stores import EMBEDDED, SHARED
from tests.faults.harness.figures import Figures, seed
from tests.faults.harness.load import Load
from tests.faults.rolling import (
    HABITS,
    PROGRESS,
    ROUNDS,
    brokers_over,
    restarted,
    roll_under_grpc,
    roll_under_sdk,
)

ALONE, TOGETHER = (EMBEDDED, SHARED) if ROUNDS > 1 else (["sqlite"], ["redis"])
BROKERS = 3


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.timeout(180 + 40 * ROUNDS)
def test_the_broker_of_a_store_of_its_own_keeps_every_promise(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with (
        brokers_over(kind, tmp_path, 1) as brokers,
        Load([brokers[0].address], tmp_path, seed=seed(), habits=HABITS) as load,
    ):
        restarts = restarted(brokers, lambda: load.wait_for_acknowledged(PROGRESS))
        verdict = load.finish()
    figures.prove(f"restarts, {kind}", verdict, restarts=restarts)


@pytest.mark.parametrize("kind", TOGETHER)
@pytest.mark.timeout(180 + 40 * ROUNDS)
def test_no_call_of_grpc_fails_and_every_promise_is_kept(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with brokers_over(kind, tmp_path, BROKERS) as brokers:
        addresses = [broker.address for broker in brokers]
        roll_under_grpc(addresses, brokers, tmp_path, figures, f", {kind}")


@pytest.mark.parametrize("kind", TOGETHER)
@pytest.mark.timeout(180 + 40 * ROUNDS)
def test_no_call_of_the_sdk_fails_and_each_job_is_done_once(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with brokers_over(kind, tmp_path, BROKERS) as brokers:
        together = "ipv4:" + ",".join(broker.address for broker in brokers)
        roll_under_sdk(together, brokers, figures, f", {kind}")
