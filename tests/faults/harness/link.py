"""The way of one client to one or several brokers."""

import json
import time
from collections.abc import Sequence
from typing import Self

import grpc

from towline.channel import SERVICE_CONFIG
from towline.v1.admin_service_pb2 import Figures, StatsRequest
from towline.v1.admin_service_pb2_grpc import AdminServiceStub
from towline.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub
from towline.v1.queue_service_pb2_grpc import QueueServiceStub

#: Brokers take turns, and one that is gone is left out.
_ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
#: The same, and gRPC makes a call again that failed with UNAVAILABLE.
_RETRIES = json.dumps(SERVICE_CONFIG)
_OPTIONS = (
    # In spite of its name: so long it may take to connect, which on a busy machine is no moment.
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Clients of one process do not share their connections.
    ("grpc.use_local_subchannel_pool", 1),
)
#: All in seconds. After a call that failed; how long Stats may take of a broker that is busy.
_PAUSE, _STATS_SECONDS = 0.05, 30.0


class Link:
    def __init__(self, addresses: Sequence[str], *, retries: bool = False) -> None:
        config = ("grpc.service_config", _RETRIES if retries else _ROUND_ROBIN)
        target = "ipv4:" + ",".join(addresses)
        self._channel = grpc.insecure_channel(target, options=(config, *_OPTIONS))
        self.queue = QueueServiceStub(self._channel)
        self.admin = AdminServiceStub(self._channel)
        self.dead = DeadLetterServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def total(self) -> Figures:
        """What Stats says of all queues together."""
        return self.admin.Stats(StatsRequest(), timeout=_STATS_SECONDS).total

    def pause(self) -> None:
        """Before a call is made again."""
        time.sleep(_PAUSE)


def total_of(address: str) -> Figures:
    with Link([address]) as link:
        return link.total()
