import os
import sys

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers.counting import hit

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS"]))


@dramatiq.actor
def nothing() -> None:
    hit()


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        nothing.send()
