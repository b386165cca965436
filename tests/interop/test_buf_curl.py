"""The broker describes itself: `buf curl`, a client that knows nothing of Towline, calls it through
server reflection, and through the .proto files alone."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import blocks

ROOT = Path(__file__).parents[2]
BUF = Path(sys.executable).with_name("buf")
SERVICES = {"towline.v1.QueueService", "towline.v1.DeadLetterService", "towline.v1.AdminService"}
PLAINTEXT = ["--http2-prior-knowledge", "--protocol", "grpc"]
#: What tells buf of the contract: nothing but the broker, or nothing but the files.
SCHEMAS = {"reflection": [], "protos": ["--schema", "protos"]}
INVALID_ARGUMENT = 3

Call = Callable[[str, object], Any]


def buf(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BUF), "curl", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines(run: "subprocess.CompletedProcess[str]") -> set[str]:
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


@pytest.fixture(params=list(SCHEMAS))
def call(request: pytest.FixtureRequest, address: str) -> Call:
    """Calls ``SERVICE/METHOD`` with a request in JSON, and hands over the answer."""

    def answer(method: str, message: object) -> Any:
        url = f"http://{address}/towline.v1.{method}"
        run = buf(*PLAINTEXT, *SCHEMAS[request.param], "--data", json.dumps(message), url)
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout)

    return answer


def test_reflection_lists_the_services(address: str) -> None:
    assert lines(buf(*PLAINTEXT, "--list-services", f"http://{address}")) >= SERVICES


def test_the_contract_that_is_served_is_the_one_in_the_files(address: str) -> None:
    served = lines(buf(*PLAINTEXT, "--list-methods", f"http://{address}"))
    written = lines(buf("--schema", "protos", "--list-methods"))
    assert {name for name in served if name.startswith("towline.")} == written


def test_a_job_is_pushed_leased_and_acknowledged_in_json(call: Call, queue: str) -> None:
    job = {"queue": queue, "type": "Greet", "payload": base64.b64encode(b"hello").decode()}
    (pushed,) = call("QueueService/Push", {"jobs": [job]})["results"]
    assert pushed["outcome"] == "PUSH_OUTCOME_CREATED"

    reserve = {"queues": [{"name": queue}], "wait": "20s", "lease": "60s"}
    (lease,) = call("QueueService/Reserve", reserve)["leases"]
    assert lease["job"] == {"id": pushed["jobId"], **job}
    assert lease["attempt"] == 1

    ack = {"leaseToken": lease["leaseToken"], "result": base64.b64encode(b"hi").decode()}
    assert call("QueueService/Ack", {"acks": [ack]}) == {
        "results": [{"outcome": "LEASE_OUTCOME_OK"}]
    }
    ended = call("QueueService/GetJob", {"id": pushed["jobId"]})["job"]
    assert ended["state"] == "JOB_STATE_SUCCEEDED"
    assert base64.b64decode(ended["result"]) == b"hi"


def test_stats_are_given_in_json(call: Call, queue: str, store: str) -> None:
    call("QueueService/Push", {"jobs": [{"queue": queue, "type": "Greet"}] * 3})
    stats = call("AdminService/Stats", {"queues": [queue]})
    assert stats["queues"][0]["figures"]["depth"] == {"ready": "3"}
    assert stats["queues"][0]["figures"]["totals"] == {"pushed": "3"}
    assert stats["broker"]["driver"] == store


def test_a_refused_call_names_the_field(address: str) -> None:
    message = json.dumps({"jobs": [{"queue": "no name", "type": "Greet"}]})
    run = buf(*PLAINTEXT, "--data", message, f"http://{address}/towline.v1.QueueService/Push")
    assert run.returncode == INVALID_ARGUMENT << 3  # buf's way to give the gRPC code
    assert "jobs[0].queue" in json.loads(run.stderr)["message"]


def test_the_command_in_the_readme_pushes_a_job(address: str) -> None:
    (command,) = [text for text in blocks("README.md", "sh") if text.startswith("buf")]
    run = subprocess.run(
        ["sh", "-c", command.replace("127.0.0.1:7480", address)],
        env={**os.environ, "PATH": f"{BUF.parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["results"][0]["outcome"] == "PUSH_OUTCOME_CREATED"
