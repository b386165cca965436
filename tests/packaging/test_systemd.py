"""deploy/systemd: the unit, its user and its settings."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging import confined
from tests.support.broker_process import BrokerProcess
from tests.support.settings import load_settings
from towline import Client
from towline_broker.domain.time import to_seconds
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ExitCode

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = FOLDER / "towline-broker.service"
#: Of systemd-analyze security, in tenths: 0 is sealed off, 100 anything goes.
MOST_EXPOSED = 13


class Unit(configparser.ConfigParser):
    """Some settings may be repeated; the last one is what it shows then."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def service() -> configparser.SectionProxy:
    unit = Unit(strict=False, interpolation=None)
    unit.read(UNIT)
    return unit["Service"]


@pytest.fixture
def unit_of_here(tmp_path: Path) -> Path:
    """The unit with the programs of this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (Debian: systemd)")
    path = tmp_path / UNIT.name
    here = Path(sys.executable).with_name("towline-broker")
    path.write_text(UNIT.read_text().replace("/opt/towline/bin/towline-broker", str(here)))
    return path


def analyze(*arguments: str | Path) -> str:
    command = ("systemd-analyze", "--no-pager", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_crash_leaves_no_memory_on_the_disk() -> None:
    assert service()["LimitCORE"] == "0"


def test_systemd_finds_nothing_wrong_with_it(unit_of_here: Path) -> None:
    assert analyze("verify", "--man=no", unit_of_here) == ""


def test_it_can_do_little_but_serve(unit_of_here: Path) -> None:
    told = analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED}", unit_of_here)
    assert "Overall exposure level" in told


def test_it_is_given_the_time_that_it_takes_and_not_started_again_for_nothing() -> None:
    found, defaults = service(), Settings()
    draining = to_seconds(defaults.drain_delay + defaults.drain_timeout)
    assert int(found["TimeoutStopSec"]) >= draining + 15
    assert found["TimeoutStartSec"] == "5min"
    assert to_seconds(defaults.wait_for_store) < 5 * 60
    final = {2, ExitCode.STORE_REFUSED, ExitCode.CONFIG}
    assert {int(code) for code in found["RestartPreventExitStatus"].split()} == final
    # Some systems have no /bin/kill.
    assert found["ExecReload"] == "/bin/sh -c 'kill -HUP ${MAINPID}'"
    assert (found["Type"], found["Restart"], found["KillMode"]) == ("notify", "on-failure", "mixed")


def test_the_user_that_it_runs_as_is_made() -> None:
    made = re.findall(r"^u (\S+) .* (\S+)$", (FOLDER / "towline.sysusers.conf").read_text(), re.M)
    found = service()
    assert made == [(found["User"], found["WorkingDirectory"])]
    assert found["WorkingDirectory"] == f"/var/lib/{found['StateDirectory']}"


def test_its_settings_are_taken_and_so_are_those_that_it_proposes(tmp_path: Path) -> None:
    text = (FOLDER / "broker.toml").read_text()
    settings = load_settings({}, FOLDER / "broker.toml")
    assert settings.store == f"sqlite:///{service()['WorkingDirectory']}/jobs.db"
    proposed = tmp_path / "proposed.toml"
    commented = re.compile(r"^# (?=[a-z]+ = |\[)", re.MULTILINE)
    proposed.write_text(commented.sub("", text.replace('listen = "127.0.0.1:7480"\n', "")))
    settings = load_settings({}, proposed)
    assert settings.tls.enabled
    assert settings.auth.enabled
    assert settings.listen == "0.0.0.0:7480"


def test_a_broker_lives_with_what_it_forbids(tmp_path: Path) -> None:
    """Of what the unit forbids: privileges, writing elsewhere, and making memory executable. (The
    filter of system calls only systemd itself can set up.)"""
    folder = tmp_path / "state"
    folder.mkdir()
    umask = os.umask(int(service()["UMask"], 8))
    try:
        run_by = confined.run_by(folder, deny_write_execute=True)
        with BrokerProcess("file:///jobs", folder=folder, run_by=run_by) as broker:
            with Client(broker.address) as client:
                client.dispatch("X", {})
            assert broker.stop() == 0
    finally:
        os.umask(umask)
