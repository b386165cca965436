"""``towline-broker doctor``: what is wrong with a place for a broker, and what to do."""

import errno
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority
from tests.support.pages import blocks
from tests.support.servers.ports import free_port
from tests.support.servers.redis import RedisServer
from towline_broker.core.clock import SystemClock
from towline_broker.doctor import disks, machine, proofs, stores
from towline_broker.doctor.findings import Finding, Level
from towline_broker.drivers.interface import Capabilities, Durability
from towline_broker.server.configuration.auth_settings import RightsSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.identity.tokens_file import Entry, digest_of, edited

MOUNTS = """\
/dev/vda1 / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
server:/jobs /srv/my\\040jobs nfs4 rw 0 0
overlay /box overlay rw 0 0
"""

#: In what docs/running.md shows.
DIFFERS = re.compile(r"ext4$|[\d.]+ (?:GiB|ms)|/var/lib/towline$| \(.*")


def doctor(folder: Path, *options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *(sys.executable, "-c", "from towline_broker.cli import main; main()"),
            *("doctor", *options),
        ],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def levels(found: Iterable[Finding]) -> list[Level]:
    return [finding.level for finding in found]


def test_a_good_place_is_found_good_and_left_as_it_was(tmp_path: Path) -> None:
    ended = doctor(tmp_path, "--listen", "127.0.0.1:0", "--http", "off")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "store default: sqlite:///towline.db: is made at the first start" in ended.stdout
    assert "a write is safe on the disk after" in ended.stdout
    assert "0 problems" in ended.stdout
    (page,) = blocks("docs/running.md", "text")
    for line in [line for line in page.splitlines() if "store default" in line]:
        said = line.partition("store default")[2]
        assert all(part in ended.stdout for part in DIFFERS.split(said)), line
    assert list(tmp_path.iterdir()) == []


async def test_a_store_in_files_that_would_be_refused_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jobs.db"
    url = f"sqlite:///{path}"
    with BrokerProcess(url, folder=tmp_path):
        assert levels([each async for each in stores.look_at("default", url)])[0] is Level.OK

    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    [newer] = [each async for each in stores.look_at("default", url)]
    assert newer.level is Level.PROBLEM
    assert "newer schema version 99" in newer.text

    # As of root, for another user.
    monkeypatch.setattr("os.access", lambda each, _: Path(each) != path)
    closed, *_ = [each async for each in stores.look_at("default", url)]
    assert closed.level is Level.PROBLEM
    assert f"{path} cannot be read and written" in closed.text


def test_every_problem_comes_with_what_to_do_and_no_password_is_told(tmp_path: Path) -> None:
    options = ("--store", "redis://:the-password@127.0.0.1:1", "--listen", "0.0.0.0:0", "--json")
    ended = doctor(tmp_path, *options, "--http", "off")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    problems = [each for each in found if each["level"] == "problem"]
    assert {each["about"] for each in problems} == {"settings", "store default"}
    assert all(each["remedy"] for each in found if each["level"] != "ok")
    assert "the-password" not in ended.stdout + ended.stderr


def test_wrong_settings_are_told_as_serve_tells_them(tmp_path: Path) -> None:
    ended = doctor(tmp_path, TOWLINE_DRAIN_TIMEOUT="soon")
    assert ended.returncode == 78
    assert "drain_timeout" in ended.stderr


@pytest.mark.parametrize("tls", [False, True])
def test_a_broker_at_work_is_known_by_what_it_shows(tls: bool, tmp_path: Path) -> None:
    url, http = f"sqlite:///{tmp_path}/jobs.db", f"127.0.0.1:{free_port()}"
    cert, key = Authority().issue().write(tmp_path)
    options = ("--http", http, *(("--tls-cert", str(cert), "--tls-key", str(key)) if tls else ()))
    with BrokerProcess(url, *options, folder=tmp_path) as broker:
        ended = doctor(tmp_path, "--store", url, "--listen", broker.address, *options)
    assert ended.returncode == 0, ended.stdout
    assert f"ok       listen {broker.address}: a broker serves there" in ended.stdout
    assert f"ok       http.listen {http}: a broker serves there" in ended.stdout
    assert "jobs.db: there" in ended.stdout


def test_an_address_that_another_program_has_is_a_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        host, port = other.getsockname()
        ended = doctor(tmp_path, "--listen", f"{host}:{port}", "--http", "off")
    assert ended.returncode == 1
    assert "and not by a broker" in ended.stdout


def test_the_option_that_chooses_another_address_is_that_of_the_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        host, port = other.getsockname()
        ended = doctor(tmp_path, "--listen", "127.0.0.1:0", "--http", f"{host}:{port}")
    assert "choose another with --http HOST:PORT" in ended.stdout
    assert "--listen HOST:PORT" not in ended.stdout


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib/towline", "ext4"),
        ("/run/towline", "tmpfs"),
        ("/srv/my jobs/a", "nfs4"),
        ("/box", "overlay"),
        ("/srv", "ext4"),
    ],
)
def test_the_kind_of_file_system_is_that_of_the_deepest_mount(folder: str, kind: str) -> None:
    assert disks.kind_of(Path(folder), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("tmpfs", Level.PROBLEM),
        ("nfs4", Level.WARNING),
        ("fuse.sshfs", Level.WARNING),
        ("overlay", Level.WARNING),
        ("xfs", Level.OK),
    ],
)
def test_a_disk_that_cannot_keep_jobs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, level: Level
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x {tmp_path} {kind} rw 0 0\n")
    monkeypatch.setattr(disks, "MOUNTS", mounts)
    assert levels(disks.look_at("store", tmp_path, 0))[0] is level


def test_a_slow_or_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "SLOW", 0.0)
    monkeypatch.setattr(disks, "LEAST_FREE", 1 << 60)
    found = list(disks.look_at("store", tmp_path / "not" / "there", 0))
    assert [each.level for each in found[1:]] == [Level.WARNING, Level.WARNING]
    assert "GiB are free" in found[1].text
    assert "median of" in found[2].text


@pytest.mark.parametrize("kind", ["sqlite", "file"])
def test_less_room_than_new_jobs_have_to_leave_is_a_problem(kind: str, tmp_path: Path) -> None:
    done = doctor(tmp_path, "--store", f"{kind}:///{tmp_path}/jobs?min_free_bytes={1 << 59}")
    assert done.returncode == 1
    assert f"less than min_free_bytes ({1 << 59}): new jobs are refused" in done.stdout


def test_a_disk_that_takes_no_more_is_a_problem_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    *_, last = disks.look_at("store", tmp_path, 0)
    assert last.level is Level.PROBLEM
    assert last.text == f"nothing can be written in {tmp_path}: No space left on device"
    assert "make room" in last.remedy


@pytest.mark.parametrize(
    ("answer", "expected"), [(0, [Level.OK]), (5, [Level.WARNING]), (None, [])]
)
def test_a_clock_that_nothing_keeps_in_step_is_told(
    monkeypatch: pytest.MonkeyPatch, answer: int | None, expected: list[Level]
) -> None:
    monkeypatch.setattr(machine, "_adjtimex", lambda: answer)
    assert levels(machine._clock()) == expected


def test_the_clock_can_be_asked_for_here() -> None:
    assert sys.platform != "linux" or machine._adjtimex() is not None


@pytest.mark.parametrize(
    ("rest", "level"),
    [(timedelta(days=90), Level.OK), (timedelta(days=3), Level.WARNING)],
)
def test_a_certificate_that_soon_runs_out_is_told(
    tmp_path: Path, rest: timedelta, level: Level
) -> None:
    cert, key = Authority().issue(ends=rest).write(tmp_path)
    settings = Settings(tls={"cert": cert, "key": key})
    assert levels(proofs.look_at(settings)) == [level]


@pytest.mark.parametrize(
    ("rest", "level"),
    [
        (timedelta(days=90), Level.OK),
        (timedelta(days=3), Level.WARNING),
        (timedelta(days=-1), Level.PROBLEM),
    ],
)
def test_an_authority_for_clients_that_soon_runs_out_is_told(
    tmp_path: Path, rest: timedelta, level: Level
) -> None:
    cert, key = Authority().issue().write(tmp_path)
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(Authority().pem + Authority(ends=rest).pem)
    settings = Settings(tls={"cert": cert, "key": key, "client_ca": authorities})
    assert levels(proofs.look_at(settings)) == [Level.OK, level]


def test_a_token_that_has_expired_is_told_unless_another_took_its_place(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    rights = RightsSettings(push=["q"])

    def entry(name: str, rest: timedelta) -> Entry:
        digest = digest_of(f"{name} {rest}").hex()
        return Entry(name=name, sha256=digest, rights=rights, created_at=now, expires_at=now + rest)

    file = tmp_path / "tokens.json"
    settings = Settings(auth={"tokens": file})
    old, new = entry("mailer", -timedelta(days=1)), entry("mailer", timedelta(days=1))
    with edited(file) as entries:
        entries[:] = [old, new]
    assert levels(proofs.look_at(settings)) == [Level.OK]
    with edited(file) as entries:
        entries[:] = [old, new, entry("ci", -timedelta(days=1))]
    (told,) = proofs.look_at(settings)
    assert (told.level, told.text) == (Level.WARNING, "expired: ci")
    with edited(file) as entries:
        entries[:] = [old]
    (told,) = proofs.look_at(settings)
    assert "none that is good" in told.text


@pytest.mark.parametrize(
    ("durability", "level"),
    [
        (Durability.NONE, Level.WARNING),
        (Durability.WINDOW, Level.WARNING),
        (Durability.DURABLE, Level.OK),
    ],
)
def test_a_store_that_is_not_durable_is_warned_of_and_no_other(
    durability: Durability, level: Level
) -> None:
    promise = Capabilities("acme", durability, "as its server says")
    found = stores._promise("store default", "acme://host", promise)
    assert found.level is level
    assert f"durability {durability.name.lower()}: as its server says" in found.text


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_a_server_is_asked_for_its_durability_its_clock_and_its_speed(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [each async for each in stores.look_at("default", redis.url)]
    assert len(found) == 3
    assert "durability" in found[0].text
    assert found[1].text == "its clock agrees with that of this machine"
    assert "is answered in" in found[2].text
    monkeypatch.setattr(SystemClock, "now", lambda _: 1_000_000)
    told = [each async for each in stores.look_at("default", redis.url)]
    assert "behind that of this machine" in told[1].text
