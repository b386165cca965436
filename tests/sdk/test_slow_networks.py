"""A network on which everything takes long is used as it is."""

from tests.support.broker_process import BrokerProcess
from tests.support.proxy import Delay, Proxy, Way
from towline import Client

#: Each way, in seconds.
LATENCY = 0.25


def test_the_first_attempt_to_connect_is_not_cut_short() -> None:
    with BrokerProcess("memory:") as broker, Proxy(broker.address) as proxy:
        proxy.fail(*(Delay(way, LATENCY, LATENCY) for way in Way))
        with Client(proxy.address) as client:
            assert client.dispatch("x").created
        assert proxy.figures().connections == 1
