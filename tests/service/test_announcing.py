"""How a broker tells that it serves: to people, to scripts, and in its ready file."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess, failed_start
from tests.support.calls import calls_to
from towline.v1.admin_service_pb2 import DURABILITY_DURABLE, DURABILITY_NONE, StatsRequest
from towline_broker.drivers.interface import Durability
from towline_broker.server.addresses import Address
from towline_broker.server.exits import ExitCode
from towline_broker.server.life.banner import banner
from towline_broker.server.particulars import StoreLine


async def test_it_says_where_it_listens_and_what_to_do_next(store: str) -> None:
    with BrokerProcess(store) as broker:
        first, *banner = broker.output.splitlines()
        assert first == f"listening on {broker.address}"
        assert not [line for line in banner if "address" in line]
        text = "\n".join(banner)
        assert f"store       {store}" in text
        assert "towline push" in text
        assert "towline worker" in text
        assert ("not durable" in broker.log) == (store == "memory:")
        async with calls_to(broker.address) as calls:
            reply = await calls.admin.Stats(StatsRequest())
        expected = DURABILITY_NONE if store == "memory:" else DURABILITY_DURABLE
        assert reply.broker.durability == expected
        assert reply.broker.version
        assert broker.stop() == ExitCode.OK
        assert not (broker.folder / "broker.address").exists()


README_JOB = """
from towline import Job

class SendEmail(Job):
    to: str

    def handle(self) -> str:
        return "sent"
"""


def test_the_commands_that_it_names_can_be_pasted(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "jobs.py").write_text(README_JOB)
    # A terminal in which no virtual environment is active.
    environment = {"PATH": os.defpath}
    with BrokerProcess("memory:", environment=environment) as broker:
        lines = [line.strip() for line in broker.output.splitlines()]
        push, work, look = (
            next(line for line in lines if f"towline {name} " in line)
            for name in ("push", "worker", "stats")
        )
        job_id = pasted(push, tmp_path, environment).stdout.strip()
        assert job_id
        assert f"job {job_id} " in pasted(f"{work} --max-jobs 1", tmp_path, environment).stderr
        assert "SendEmail" in pasted(look, tmp_path, environment).stdout


def pasted(
    line: str, folder: Path, environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, (line, done.stderr)
    return done


@pytest.mark.parametrize(
    ("listens_on", "option"),
    [
        ("127.0.0.1:7480", ""),
        ("127.0.0.1:7481", " --url 127.0.0.1:7481"),
        ("0.0.0.0:7480", ""),
        ("[::]:7481", " --url '[::1]:7481'"),
        ("192.0.2.1:7480", " --url 192.0.2.1:7480"),
    ],
)
def test_the_commands_that_it_names_find_it(
    listens_on: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / "towline"
    found.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    store = StoreLine("default", "memory:", Durability.NONE, "jobs end with the process")
    said = banner("1", Address.parse(listens_on), [store]).splitlines()
    assert f"    towline stats{option}" in said
    assert f"    towline worker app.jobs --queue emails{option}" in said


def test_it_says_which_jobs_end_with_it() -> None:
    file = StoreLine("default", "sqlite:///a.db", Durability.DURABLE, "synced")
    ram = StoreLine("ram", "memory:", Durability.NONE, "in memory")
    unsynced = StoreLine("pg", "postgresql://db/jobs", Durability.NONE, "fsync is off", shared=True)
    for stores, kept in (
        ([file], "its jobs stay in the store."),
        ([ram], "its jobs end with it."),
        ([file, unsynced], "its jobs stay in their stores."),
        ([file, unsynced, ram], "its jobs stay in their stores, but those of ram end with it."),
    ):
        said = banner("1", Address.parse("127.0.0.1:7480"), stores)
        assert f"Ctrl-C drains and stops the broker; {kept}" in said


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_ready_file_that_cannot_be_written_is_told_before_anything_is_opened(
    tmp_path: Path, processes: str
) -> None:
    (tmp_path / "folder").mkdir()
    for ready, reason in (
        ("none/ready", "No such file or directory"),
        ("folder", "Is a directory"),
    ):
        options = ("--listen", "127.0.0.1:0", "--processes", processes, "--ready-file", ready)
        code, said = failed_start(options, tmp_path)
        assert code == ExitCode.NOT_WRITTEN
        assert f"towline-broker: --ready-file: cannot write {ready}: {reason}\n" in said
        assert "Traceback" not in said
        assert not (tmp_path / "towline.db").exists()


def test_the_ready_file_of_one_that_was_killed_does_not_speak_for_the_next(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("127.0.0.1:7480\n")
    options = ("--store", "memory:", "--listen", "192.0.2.1:1", "--ready-file", str(ready))
    code, _ = failed_start(options, tmp_path)
    assert code == ExitCode.CONFIG
    assert not ready.exists()


def test_nobody_has_to_read_what_it_says() -> None:
    deaf = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    with BrokerProcess("memory:", run_by=deaf) as broker:
        assert "nobody hears on standard output: No space left on device" in broker.log
        assert broker.stop() == ExitCode.OK
        assert "Traceback" not in broker.log
