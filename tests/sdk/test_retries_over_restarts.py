"""Attempts are counted by the store, also when the broker is killed and the worker a new one."""

from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from towline import Client, JobFailed, JobState, Registry, Worker, job

registry = Registry()


@job(registry=registry, max_attempts=3, backoff=0)
def hopeless() -> None:
    raise ConnectionError("still not there")


@pytest.mark.parametrize("store", ["sqlite", "file"])
def test_attempts_that_were_used_up_count_after_a_restart(store: str, tmp_path: Path) -> None:
    with BrokerProcess(f"{store}:///{tmp_path / 'jobs'}") as server:
        with Client(server.address) as client:
            handle = client.dispatch(hopeless)
        attempts = []
        for _ in range(3):
            with Client(server.address) as client:
                Worker(server.address, registry=registry, guardian=False).run_once()
                attempts.append(client.get(handle.id).attempt)
            server.kill()
            server.start()
        assert attempts == [1, 2, 3]
        with Client(server.address) as client:
            status = client.get(handle.id)
            assert status.failure is not None
            assert (status.state, status.failure.message) == (JobState.DEAD, "still not there")
            with pytest.raises(JobFailed, match="ATTEMPTS_EXHAUSTED"):
                client.handle(handle.id).result(timeout=10)
