"""Settings of a worker: a wrong one is named together with what it may be."""

from datetime import timedelta
from typing import Any

import pytest

from tests.sdk.running import fake_broker
from towline.client import Client
from towline.errors import ConfigurationError
from towline.registry import Registry
from towline.worker import Worker


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queues": []}, "queues: expected at least one name, got none"),
        ({"queues": "emails"}, "queues: expected a list of names, got a string"),
        ({"queues": None}, "queues: expected a list of names, or a mapping .*, got None"),
        ({"queues": 5}, "queues: expected a list of names, or a mapping .*, got 5"),
        ({"queues": {5: 1}}, "queues: 5 is no queue name"),
        ({"queues": ["no spaces"]}, "queues: 'no spaces' is no queue name"),
        ({"queues": ["x" * 129]}, "is no queue name"),
        ({"queues": [7]}, "queues: 7 is no queue name"),
        ({"queues": ["a", "b", "a"]}, "queues: 'a' is named twice"),
        ({"queues": {"a": 0}}, r"queues\['a'\]: expected a whole number from 1 to .*, got 0"),
        ({"queues": {"a": 2**31}}, r"queues\['a'\]: expected"),
        ({"queues": {"a": 1.5}}, r"queues\['a'\]: expected"),
        ({"concurrency": 0}, "concurrency: expected a whole number from 1 to 10000, got 0"),
        ({"concurrency": 10_001}, "concurrency: expected"),
        ({"prefetch": -1}, "prefetch: expected a whole number from 0 to 1000, got -1"),
        ({"prefetch": 1001}, "prefetch: expected"),
        ({"prefetch": 2.5}, "prefetch: expected"),
        ({"concurrency": True}, "concurrency: expected"),
        ({"concurrency": "8"}, "concurrency: expected"),
        ({"pool": "fork"}, 'pool: expected "thread", "async" or "process"'),
        ({"lease": 0}, "lease: expected more than 0 seconds, got 0 s"),
        ({"lease": "30"}, "lease: expected seconds"),
        ({"max_jobs": 0}, "max_jobs: expected a whole number of at least 1, got 0"),
        ({"max_time": -1}, "max_time: expected seconds"),
        ({"drain_timeout": float("nan")}, "drain_timeout: expected seconds"),
        ({"wait": "20"}, "wait: expected seconds"),
        ({"sleep": -1}, "sleep: expected seconds"),
        ({"types": "SendEmail"}, "types: expected a list of job types, got 'SendEmail'"),
        ({"types": 5}, "types: expected a list of job types, got 5"),
        ({"types": ["SendEmail", 5]}, "types: 5 is no job type, nor a Job class"),
        ({"types": [""]}, "types: '' is no job type"),
        ({"types": []}, "types: an empty list would run nothing"),
        ({"max_attempts": 0}, "max_attempts: expected a whole number of at least 1, got 0"),
        ({"default_timeout": 0}, "default_timeout: expected seconds > 0, got 0"),
        ({"max_memory": 500}, "max_memory: expected bytes or a string such as"),
        ({"max_memory": "500MB", "processes": 2}, "max_memory_per_child is the limit of each"),
        ({"worker_id": ""}, "worker_id: expected 1 to 128 printable ASCII"),
        ({"worker_id": "with space"}, "worker_id: expected"),
        ({"worker_id": "x" * 129}, "worker_id: expected"),
        ({"worker_id": 5}, "worker_id: expected 1 to 128 printable ASCII .*, got 5"),
        ({"registry": 5}, "registry: expected a Registry, got 5"),
        ({"broker": 7480}, "broker: expected a Client or an address, got 7480"),
        ({"broker": "no address"}, "address: expected host:port"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Worker(**settings)


def test_the_bounds_themselves_are_taken() -> None:
    Worker(concurrency=10_000, prefetch=1000, lease=1, queues={"q": 1000}, worker_id="x" * 128)
    Worker(max_time=1e13, drain_timeout=1e13)
    Worker(wait=60, sleep=0, max_attempts=1, max_memory="1MB", default_timeout=0.001)
    Worker(
        concurrency=1, prefetch=0, lease=timedelta(hours=12), drain_timeout=0, queues=["x" * 128]
    )


def test_workers_have_ids_of_their_own() -> None:
    first, second = Worker(), Worker()
    assert first.worker_id != second.worker_id
    assert Worker(worker_id="mine").worker_id == "mine"


def test_a_client_gives_its_address_and_may_be_closed_meanwhile() -> None:
    with fake_broker() as broker:
        client = Client(broker.address)
        with Worker(client, registry=Registry()):
            client.close()
            job_id = broker.add("Unknown")
            assert broker.nack(job_id).failure.type == "UnknownJobType"
