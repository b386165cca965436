"""P1 to P7, Stats: two brokers behind a load balancer are restarted one by one, under load of
clients of gRPC with its standard retries and of the SDK: no call fails, no job is lost.

The balancers are set up by the examples of docs/operations.md. `make faults` goes round many times,
over every store that brokers share.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.durable_stores import EVERY, Store
from tests.faults.harness.figures import Figures
from tests.faults.rolling import ROUNDS, roll_under_grpc, roll_under_sdk
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
        where = f" behind {balancer}, {kind}"
        roll_under_grpc([address], brokers, tmp_path, figures, where)
        if ROUNDS > 1:
            roll_under_sdk(address, brokers, figures, where)


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
