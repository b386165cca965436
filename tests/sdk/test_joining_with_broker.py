"""Joined pushes over a real broker that is killed: what a caller was told is true."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.broker_process import BrokerProcess
from towline import BrokerUnavailable, Client, DeadlineExceeded
from towline.ids import uuid7

THREADS = 16
KILLS = 2
JOBS = 200
"""At least so many are stored between two kills."""


class Producers:
    """Threads that dispatch job after job until they are told to stop."""

    def __init__(self, client: Client) -> None:
        self.stored: list[str] = []
        self._client = client
        self._stop = threading.Event()
        self._progress = threading.Semaphore(0)

    def run(self, number: int) -> None:
        while not self._stop.is_set():
            job_id = uuid7()
            try:
                handle = self._client.dispatch("x", queue=f"q{number % 3}", id=job_id)
            except (BrokerUnavailable, DeadlineExceeded):
                continue  # it may be stored or not: nobody was told that it is
            assert handle.id == job_id
            self.stored.append(job_id)
            self._progress.release()

    def wait_for_jobs(self) -> None:
        for _ in range(JOBS):
            assert self._progress.acquire(timeout=60), "nothing is stored any more"

    def stop(self) -> None:
        self._stop.set()


def test_p1_what_was_dispatched_by_many_threads_outlives_kills_of_the_broker(
    tmp_path: Path,
) -> None:
    store = f"sqlite:///{tmp_path}/jobs.db"
    with BrokerProcess(store, folder=tmp_path) as server, Client(server.address) as client:
        producers = Producers(client)
        with ThreadPoolExecutor(THREADS) as threads:
            running = [threads.submit(producers.run, number) for number in range(THREADS)]
            try:
                for _ in range(KILLS):
                    producers.wait_for_jobs()
                    server.kill()
                    server.start()
                producers.wait_for_jobs()
            finally:
                producers.stop()
            for each in running:
                each.result(60)
        assert len(set(producers.stored)) == len(producers.stored) >= JOBS * (KILLS + 1)
        assert {client.get(job_id).id for job_id in producers.stored} == set(producers.stored)
