import os
import sys

from redis import Redis
from rq import Queue

from bench.peers.counting import hit


def nothing() -> None:
    hit()


if __name__ == "__main__":
    queue = Queue(connection=Redis.from_url(os.environ["BENCH_REDIS"]))
    left = int(sys.argv[2])
    while left:
        batch = min(left, 500)
        data = [Queue.prepare_data("bench.peers.on_rq.nothing", result_ttl=0) for _ in range(batch)]
        queue.enqueue_many(data)
        left -= batch
