"""A broker that is killed loses nothing that it has confirmed; the command tells what is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.drivers.file_support import ack, opened, push, reserve
from towline.v1.job_pb2 import Job
from towline_broker.cli import app
from towline_broker.drivers.file import segments
from towline_broker.drivers.interface import JobQuery
from towline_broker.testing.factories import new_job

#: Pushes jobs from several tasks as fast as it can and prints the ids of each push that returned.
PUSHER = """
import asyncio, sys
from uuid import uuid4
from towline_broker.domain.jobs import NewJob
from towline_broker.drivers.interface import PushBatch
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.store import Heard

async def push_on(driver):
    while True:
        jobs = [NewJob(str(uuid4()), "q", "T", b"x" * 500) for _ in range(20)]
        await driver.push(PushBatch(jobs, 1))
        print(*(job.id for job in jobs), flush=True)

async def main():
    driver = create_driver(sys.argv[1])
    await driver.open(1, Heard())
    await asyncio.gather(*(push_on(driver) for _ in range(4)))

asyncio.run(main())
"""


async def test_every_push_that_returned_survives_a_kill(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    confirmed: set[str] = set()
    for _ in range(3):
        confirmed |= killed_while_pushing(directory)
        async with opened(directory) as driver:
            stored, cursor = set(), None
            while True:
                page = await driver.list_jobs(JobQuery(1_000, cursor=cursor))
                stored |= {record.id for record in page.records}
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert confirmed <= stored
            # Each push was whole or not there at all.
            assert len(stored) % 20 == 0
            (counts,) = await driver.counts()
            assert counts.depth.ready == counts.totals.pushed == len(stored)


def killed_while_pushing(directory: Path) -> set[str]:
    """The ids that a process has reported as pushed by the time it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", PUSHER, f"file:///{directory}?segment_bytes=65536&min_free_bytes=0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as pusher:
        assert pusher.stdout is not None
        lines = [pusher.stdout.readline() for _ in range(100)]
        pusher.kill()
        # What it wrote before it died was confirmed too; a line that was cut off was not.
        lines += [line for line in pusher.stdout if line.endswith("\n")]
    assert len(lines) >= 100
    return {job_id for line in lines for job_id in line.split()}


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    envelope = Job(payload=b'{"to": "a@b.c"}', content_type="application/json").SerializeToString()
    async with opened(tmp_path / "store") as driver:
        await push(driver, new_job(envelope=envelope), new_job(envelope=b"\xff"))
        await ack(driver, await reserve(driver, 1))
    return tmp_path / "store"


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["journal", *arguments])
    return result.exit_code, result.output


def test_the_command_checks_a_journal(directory: Path) -> None:
    code, said = run("check", str(directory))
    assert code == 0
    assert "sound: segments 1 to 1, 4 frames with 4 records" in said


def test_the_command_names_the_place_of_damage(directory: Path) -> None:
    path = segments.path_of(directory, 1)
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    code, said = run("check", str(directory))
    assert code == 1
    assert "journal-0000000001.log is damaged at offset 60: frame 1 cannot be read" in said
    assert run("cat", str(directory))[0] == 1


def test_the_command_prints_records_as_lines_of_json(directory: Path) -> None:
    code, said = run("cat", str(directory))
    assert code == 0
    pushed, leased, acked, _ = [json.loads(line) for line in said.splitlines()]
    first, second = pushed["jobs"]
    assert first["envelope"] == {
        "payload": '{"to": "a@b.c"}',
        "content_type": "application/json",
    }
    assert second["envelope"] == {"base64": "/w=="}
    assert (first["queue"], first["state"]) == ("q", "READY")
    assert leased["standing"][0]["lease"]["grant"] == "grant"
    assert acked["gone"] == [first["id"]]
    assert acked["settled"][0]["settlement"] == "ACKED"
    assert [line["sequence"] for line in (pushed, leased, acked)] == [1, 2, 3]
    assert [line["tallies"] for line in (pushed, acked)] == [
        [{"queue": "q", "type": "T", "totals": {"pushed": 2}}],
        [{"queue": "q", "type": "T", "totals": {"pushed": 2, "started": 1, "completed": 1}}],
    ]


def test_the_command_leaves_out_payloads_and_what_came_before(directory: Path) -> None:
    assert "a@b.c" not in run("cat", "--no-payload", str(directory))[1]
    (last,) = run("cat", "--from", "4", str(directory))[1].splitlines()
    assert json.loads(last)["sequence"] == 4


async def test_the_command_reads_a_store_that_is_in_use(directory: Path) -> None:
    async with opened(directory) as driver:
        await push(driver, new_job())
        assert run("check", str(directory))[0] == 0


def test_the_command_says_where_no_journal_is(tmp_path: Path) -> None:
    code, said = run("check", str(tmp_path))
    assert code == 2
    assert f"there is no journal in {tmp_path}" in said
