import os
import sys

from celery import Celery

from bench.peers.counting import hit

app = Celery("bench", broker=os.environ["BENCH_REDIS"])
# Nobody asks for results; otherwise as it comes.
app.conf.task_ignore_result = True


@app.task(name="nothing")
def nothing() -> None:
    hit()


if __name__ == "__main__":
    with app.connection_for_write() as connection, app.amqp.producer_pool.acquire() as producer:
        for _ in range(int(sys.argv[2])):
            nothing.apply_async(producer=producer)
