"""P1 to P7, Stats: two brokers behind a load balancer are restarted one by one, under load of
clients of gRPC with its standard retries and of the SDK: no call fails, no job is lost.

The balancers are set up by the examples of docs/operations.md. `make faults` goes round many times,
over every store that brokers share.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.durable_stores import EVERY, Store
from tests.faults.harness.figures import Figures, seed
from tests.faults.harness.load import Load
from tests.faults.rolling import (
    HABITS,
    PROGRESS,
    ROUNDS,
    repeatable,
    restarted,
    sdk_at_work,
)
from tests.support.broker_process import BrokerProcess
from tests.support.servers.balancers import Balancer, Behind, HAProxy, Nginx, NginxForCalls
from tests.support.servers.ports import free_port

Kind = Callable[[Sequence[Behind]], Balancer]
BALANCERS: dict[str, Kind] = {
    "haproxy": HAProxy,
    "nginx": Nginx,
    "nginx-for-calls": NginxForCalls,
}
#: A balancer and a store.
CASES = (
    [(balancer, store) for balancer in BALANCERS for store in ("postgresql", "redis")]
    if ROUNDS > 1
    else [("nginx", "redis")]
)


@pytest.mark.parametrize(("balancer", "kind"), CASES)
@pytest.mark.timeout(180 + 60 * ROUNDS)
def test_no_call_fails_and_no_job_is_lost(
    balancer: str, kind: str, tmp_path: Path, figures: Figures
) -> None:
    with balanced(balancer, kind, tmp_path) as (address, brokers):
        grpc_at_work(address, brokers, tmp_path, figures, f"behind {balancer}, {kind}")
        if ROUNDS > 1:
            sdk_at_work_behind(address, brokers, figures, f"behind {balancer}, {kind}")


def grpc_at_work(
    address: str, brokers: Sequence[BrokerProcess], folder: Path, figures: Figures, where: str
) -> None:
    with Load([address], folder, seed=seed(), habits=HABITS, retries=True) as load:
        restarts = restarted(brokers, lambda: load.wait_for_acknowledged(PROGRESS))
        verdict = load.finish(assumptions=Store("").shared)
    calls, failed = repeatable(verdict)
    figures.prove(
        f"rolling restarts {where}",
        verdict,
        restarts=restarts,
        calls=len(calls),
        calls_failed=len(failed),
    )
    assert failed == [], said_by(brokers)


def sdk_at_work_behind(
    address: str, brokers: Sequence[BrokerProcess], figures: Figures, where: str
) -> None:
    with sdk_at_work(address) as sdk:
        restarts = restarted(brokers, lambda: sdk.wait_for(PROGRESS))
        sdk.finish()
    figures.show(
        f"rolling restarts with the SDK {where}",
        restarts=restarts,
        jobs=len(sdk.pushed),
        done=sdk.done.total(),
        errors=len(sdk.errors),
    )
    assert sdk.errors == [], said_by(brokers)
    assert sdk.done == Counter(sdk.pushed)


def said_by(brokers: Sequence[BrokerProcess]) -> list[str]:
    return [line for each in brokers for line in each.log.splitlines() if "ERROR" in line]


@contextmanager
def balanced(
    balancer: str, kind: str, folder: Path
) -> Iterator[tuple[str, Sequence[BrokerProcess]]]:
    """The address of the balancer, and the two brokers behind it."""
    with (
        EVERY[kind](folder) as store,
        behind(store, folder) as (one, one_http),
        behind(store, folder) as (other, other_http),
    ):
        places = [
            Behind(int(each.address.rpartition(":")[2]), http)
            for each, http in ((one, one_http), (other, other_http))
        ]
        with BALANCERS[balancer](places) as running:
            yield running.address, (one, other)


@contextmanager
def behind(store: Store, folder: Path) -> Iterator[tuple[BrokerProcess, int]]:
    http = free_port()
    name = folder / f"broker-{http}"
    name.mkdir()
    environment = {"TOWLINE_HTTP__LISTEN": f"127.0.0.1:{http}"}
    with BrokerProcess(store.url, folder=name, environment=environment) as broker:
        yield broker, http
