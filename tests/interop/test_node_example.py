"""The example in Node does what its README says, also together with Python, and outlives its
broker."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.node_process import SCRIPTS, TIMEOUT, environment, node, play
from tests.support.broker_process import BrokerProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "node"
TOWLINE = (sys.executable, "-c", "from towline.cli import main; main()")
TEXT = "the quick brown fox"
COUNTED = {"words": 4, "characters": 19}

PYTHON_JOBS = """
from towline import Job

class CountWords(Job):
    queue = "texts"
    text: str

    def handle(self) -> dict[str, int]:
        return {"words": len(self.text.split()), "characters": len(self.text)}
"""


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess("sqlite:///towline.db") as broker:
        yield broker


@contextmanager
def running(
    command: Sequence[str], address: str, folder: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that works in ``folder``, writes to output.txt there, and is killed at the end."""
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment(), "TOWLINE_URL": address},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        sys.stderr.write((folder / "output.txt").read_text())  # shown when the test fails


def node_worker(address: str) -> list[str]:
    return [node(), str(EXAMPLE / "worker.js"), address]


def produce(address: str) -> object:
    """The result that the producer prints."""
    return printed([node(), str(EXAMPLE / "producer.js"), TEXT, address], address)


def printed(command: Sequence[str], address: str) -> object:
    run = subprocess.run(
        command,
        env={**environment(), "TOWLINE_URL": address},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_the_producer_prints_what_the_worker_made_and_the_worker_ends_when_asked(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with running(node_worker(broker.address), broker.address, tmp_path) as worker:
        assert produce(broker.address) == COUNTED
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(TIMEOUT) == 0
    assert "CountWords: done" in (tmp_path / "output.txt").read_text()


def test_the_worker_takes_up_its_work_again_after_the_broker_was_killed(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with running(node_worker(broker.address), broker.address, tmp_path) as worker:
        assert produce(broker.address) == COUNTED
        broker.kill()
        output = tmp_path / "output.txt"
        deadline = time.monotonic() + TIMEOUT
        while "trying again" not in output.read_text():
            assert time.monotonic() < deadline, "the worker did not notice"
            time.sleep(0.01)
        broker.start()
        assert produce(broker.address) == COUNTED
        assert worker.poll() is None


#: Prints how often a call was made that was cancelled once: by the broker, and by its caller.
CANCELLED = """
const { untilAnswered } = require(process.argv[1]);

async function made(signal) {
  let calls = 0;
  const call = async () => {
    if (++calls === 1) throw Object.assign(new Error('CANCELLED'), { code: 1 });
  };
  await untilAnswered(call, signal).catch(() => {});
  return calls;
}

(async () => {
  const byBroker = await made();
  const byCaller = await made(AbortSignal.abort());
  console.log(JSON.stringify({ byBroker, byCaller }));
})();
"""


def test_a_call_that_a_stopping_broker_cancels_is_made_again() -> None:
    command = [node(), "-e", CANCELLED, str(EXAMPLE / "towline.js")]
    assert printed(command, "") == {"byBroker": 2, "byCaller": 1}


def test_the_worker_says_why_it_cannot_do_a_job(broker: BrokerProcess, tmp_path: Path) -> None:
    with running(node_worker(broker.address), broker.address, tmp_path):
        assert play(broker.address, "worker.refusals", "texts") == {
            "badPayload": ["JOB_STATE_DEAD", "DEAD_REASON_REJECTED", "SyntaxError"],
            "throws": ["JOB_STATE_DEAD", "DEAD_REASON_ATTEMPTS_EXHAUSTED", "TypeError"],
            "unknownType": ["JOB_STATE_SCHEDULED", "DEAD_REASON_UNSPECIFIED", "UnknownType"],
        }


def test_the_worker_ends_when_an_operator_stops_it(broker: BrokerProcess, tmp_path: Path) -> None:
    with running(node_worker(broker.address), broker.address, tmp_path) as worker:
        assert play(broker.address, "worker.stop", "texts") == {"queues": ["texts"]}
        assert worker.wait(TIMEOUT) == 0  # it hears of it at its next heartbeat, 10 seconds apart


def test_the_worker_runs_what_the_command_line_pushes(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    with running(node_worker(broker.address), broker.address, tmp_path):
        push = ["push", "CountWords", json.dumps({"text": TEXT}), "--queue", "texts", "--wait"]
        assert printed([*TOWLINE, *push], broker.address) == COUNTED


def test_a_python_worker_runs_what_the_producer_pushes(
    broker: BrokerProcess, tmp_path: Path
) -> None:
    (tmp_path / "text_jobs.py").write_text(PYTHON_JOBS, encoding="utf-8")
    worker = [*TOWLINE, "worker", "text_jobs", "--queue", "texts", "--max-jobs", "1"]
    with running(worker, broker.address, tmp_path) as process:
        assert produce(broker.address) == COUNTED
        assert process.wait(TIMEOUT) == 0


def test_the_example_is_tested_with_the_packages_that_it_asks_for() -> None:
    asked, tested = (
        json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
        for folder in (EXAMPLE, SCRIPTS)
    )
    assert asked == tested
