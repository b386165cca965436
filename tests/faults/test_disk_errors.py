"""P1: a broker whose disk fails answers nothing more and ends; what it had answered is there.

That the stores do so at every call is shown in ``test_crash_points.py``; here it is a broker, and
clients that push until it is gone.
"""

import errno
import random
from pathlib import Path

import grpc
import pytest

from tests.faults.harness.figures import seed
from tests.support.broker_process import BrokerProcess
from tests.support.failing_calls import FOR_EVER, NoCompiler, What, armed, built, loaded
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1 import queue_service_pb2_grpc as rpc
from towline.v1.job_pb2 import Job, JobState
from towline_broker.server.exits import ExitCode

STORES = {"sqlite": "sqlite:///{}/jobs.db", "file": "file:///{}/jobs"}
SEED = seed()
#: Calls to sync: those of the start, and some more.
SYNCS = (60, 120)


@pytest.mark.parametrize("kind", STORES)
def test_p1_a_broker_whose_disk_does_not_sync_ends_unanswered(kind: str, tmp_path: Path) -> None:
    try:
        library = built(tmp_path)
    except NoCompiler as missing:
        pytest.skip(f"a disk that does not sync is not tested: {missing}")
    folder = tmp_path / "store"
    folder.mkdir()
    first = random.Random(f"{SEED} {kind}").randint(*SYNCS)
    fails = armed(folder, "fsync,fdatasync", What.FAIL, errno.EIO, first, FOR_EVER)
    url = STORES[kind].format(folder)
    with BrokerProcess(url, folder=tmp_path, environment=loaded(library) | fails) as broker:
        pushed, refusal = pushed_until_refused(broker.address)
        assert broker.wait() == ExitCode.STORE_FAILED, f"seed {SEED}"
        assert refusal is grpc.StatusCode.UNAVAILABLE, f"seed {SEED}"
    assert pushed, f"seed {SEED}"
    with BrokerProcess(url, folder=tmp_path) as broker, channel_to(broker) as channel:
        stub = rpc.QueueServiceStub(channel)
        for job_id in pushed:
            job = stub.GetJob(pb.GetJobRequest(id=job_id), timeout=20).job
            assert job.state == JobState.JOB_STATE_READY, f"seed {SEED}"


def pushed_until_refused(address: str) -> tuple[list[str], grpc.StatusCode]:
    pushed: list[str] = []
    with grpc.insecure_channel(address) as channel:
        stub = rpc.QueueServiceStub(channel)
        while True:
            job = Job(id=uuid7(), queue="q", type="T")
            try:
                stub.Push(pb.PushRequest(jobs=[job]), timeout=20)
            except grpc.RpcError as error:
                return pushed, error.code()
            pushed.append(job.id)


def channel_to(broker: BrokerProcess) -> grpc.Channel:
    return grpc.insecure_channel(broker.address)
