"""A process that pushes over a stream can be forked, as one that makes calls can."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.sdk.stream_broker import StreamBroker, stream_broker

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

FORKS, JOBS = 5, 20
PATIENCE = 60
#: gRPC says so when it leaves a child with what threads of its parent were about.
UNSAFE = "skipping fork"

PROGRAM = """
import os
import sys
import threading
import time

at_forks = []
# The first that is registered is the last that is called: all is as the fork will find it.
os.register_at_fork(before=lambda: at_forks.append([t.name for t in threading.enumerate()]))

from towline import Client
from towline.errors import CallFailed

def streams():
    return any(thread.name == "towline-pushes" for thread in threading.enumerate())

def over_a_stream(client):
    for _ in range(3):
        while not streams():
            client.dispatch("warm")
        client.dispatch("warm")

def fork(client, jobs):
    began = time.monotonic()
    child = os.fork()
    if not child:
        code = 1
        try:
            for _ in range(jobs):
                client.dispatch("child")
            code = 0
        finally:
            os._exit(code)
    took = time.monotonic() - began
    assert os.waitpid(child, 0)[1] == 0
    return took
"""
FORKING = f"""
with Client(sys.argv[1]) as client:
    for _ in range({FORKS}):
        over_a_stream(client)
        fork(client, {JOBS})
assert len(at_forks) == {FORKS}
assert not any("towline-pushes" in names for names in at_forks), at_forks
"""
HELD_UP = """
def wait_for_an_answer():
    try:
        client.dispatch("parent", call_timeout=8)
    except CallFailed:
        pass

with Client(sys.argv[1]) as client:
    over_a_stream(client)
    print("streams", flush=True)
    input()
    waiting = threading.Thread(target=wait_for_an_answer)
    waiting.start()
    took = fork(client, 0)
    waiting.join()
assert took < 5, took
"""


@pytest.fixture
def broker() -> Iterator[StreamBroker]:
    with stream_broker() as broker:
        yield broker


def started(program: str, broker: StreamBroker) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + program, broker.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_stream_ends_before_a_fork_and_comes_again_behind_it(broker: StreamBroker) -> None:
    with started(FORKING, broker) as process:
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert UNSAFE not in said
    assert len(broker.streams) >= FORKS
    pushed = [info.job.type for info in broker.jobs.values()]
    assert pushed.count("child") == FORKS * JOBS


def test_a_broker_that_does_not_answer_holds_no_fork_up(broker: StreamBroker) -> None:
    with started(HELD_UP, broker) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "streams\n"
        broker.silent = True
        _, said = process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 0, said
