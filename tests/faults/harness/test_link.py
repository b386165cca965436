"""The way to a broker, and what is asked at its end."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
import pytest

from tests.faults.harness.closing import drained
from tests.faults.harness.link import Link
from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Delay, Proxy, Way


def test_a_broker_that_is_slow_to_be_connected_to_is_reached(tmp_path: Path) -> None:
    with (
        BrokerProcess("memory:", folder=tmp_path) as broker,
        Proxy(broker.address, seed=1) as proxy,
        Link([proxy.address]) as link,
    ):
        proxy.fail(Delay(Way.REPLY, 0.4, 0.5))
        assert link.total().depth.ready == 0


def test_a_defect_of_stats_is_not_taken_for_a_broker_that_comes_back() -> None:
    class Failed(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.INTERNAL

    def total() -> None:
        raise Failed

    with pytest.raises(Failed):
        drained(cast(Link, SimpleNamespace(total=total)), 5)
