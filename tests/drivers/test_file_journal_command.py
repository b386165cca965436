"""The command tells what is in a journal, whole or damaged."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.drivers.file_support import opened
from tests.support.stores import ack, push, reserve
from towline.v1.job_pb2 import Job
from towline_broker.cli import app
from towline_broker.drivers.file import segments
from towline_broker.testing.factories import new_job


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    envelope = Job(payload=b'{"to": "a@b.c"}', content_type="application/json").SerializeToString()
    async with opened(tmp_path / "store") as driver:
        await push(driver, new_job(envelope=envelope), new_job(envelope=b"\xff"))
        await ack(driver, await reserve(driver, 1, grant="grant"))
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
    (together,) = pushed["pushed"]
    assert together["envelopes"] == [
        {"payload": '{"to": "a@b.c"}', "content_type": "application/json"},
        {"base64": "/w=="},
    ]
    assert (together["queue"], together["type"]) == ("q", "T")
    first, _ = together["ids"]
    (granted,) = leased["granted"]
    assert (granted["ids"], granted["attempt"]) == ([first], 1)
    assert granted["lease"]["grant"] == "grant"
    assert acked["gone"] == [first]
    assert (acked["ended"][0]["state"], acked["ended"][0]["grant"]) == ("SUCCEEDED", "grant")
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
