"""SIGHUP: what may change does, what may not is named, and a mistake changes nothing."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.broker_process import COMMAND, BrokerProcess
from tests.support.calls import calls_to
from tests.support.third_party import install
from tests.support.waiting import until
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest, ReserveRequest
from towline_broker.domain.time import SECOND
from towline_broker.server.configuration.catalogue import all_settings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import Loaded, Sources
from towline_broker.server.exits import ConfigError
from towline_broker.server.life.reloading import Reloading, _named, differences, taken_over
from towline_broker.server.life.systemd import Systemd

SETTINGS = """
log_level = "info"
{top}
[queues.emails]
{emails}
"""


def write(folder: Path, top: str = "", emails: str = "") -> None:
    (folder / "towline-broker.toml").write_text(SETTINGS.format(top=top, emails=emails))


@pytest.fixture(scope="module")
def systemd() -> Iterator[socket.socket]:
    """Where the broker tells systemd of itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("\0towline-reloading-" + uuid4().hex)
        heard.setblocking(False)
        yield heard


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, systemd: socket.socket
) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("reloading")
    write(folder)
    environment = {"NOTIFY_SOCKET": "@" + systemd.getsockname()[1:].decode()}
    options = ("--http", "off")
    with BrokerProcess("memory:", *options, folder=folder, environment=environment) as broker:
        yield broker


@pytest.fixture
async def broker(running: BrokerProcess) -> BrokerProcess:
    """Whatever was set before is not any more."""
    write(running.folder)
    await reread(running, "settings reread")
    return running


async def reread(broker: BrokerProcess, *told: str) -> str:
    """What it logs about it, once it has said all of ``told``."""
    before = len(broker.log)
    broker.send_signal(signal.SIGHUP)

    async def has_told() -> bool:
        return all(each in broker.log[before:] for each in told)

    await until(has_told, f"the broker tells {told}")
    return broker.log[before:]


async def push(broker: BrokerProcess, queue: str) -> str:
    """The outcome, or why it was refused."""
    async with calls_to(broker.address) as calls:
        request = PushRequest(jobs=[Job(type="T", queue=queue)], allow_partial=True)
        (result,) = (await calls.queue.Push(request, timeout=10)).results
    return result.error.reason or "pushed"


async def test_what_may_change_does(broker: BrokerProcess) -> None:
    assert await push(broker, "emails") == "pushed"
    write(broker.folder, 'drain_timeout = "5s"', "max_depth = 1")
    told = await reread(broker, "settings reread")
    assert "in force from now on: queues.emails.max_depth, drain_timeout" in told
    assert await push(broker, "emails") == "QUEUE_FULL"
    assert "nothing that can change while the broker runs has changed" in await reread(
        broker, "settings reread"
    )
    write(broker.folder, emails='max_depth = 100\n[queues."*"]\nmax_depth = 1')
    await reread(broker, 'queues."*".max_depth')
    assert await push(broker, "emails") == "pushed"
    assert [await push(broker, "others") for _ in range(2)] == ["pushed", "QUEUE_FULL"]


async def test_a_worker_that_waits_gets_the_jobs_of_a_queue_that_is_opened(
    broker: BrokerProcess,
) -> None:
    write(broker.folder, "", "paused = true")
    await reread(broker, "queues.emails.paused")
    await push(broker, "emails")
    async with calls_to(broker.address) as calls:
        request = ReserveRequest(worker_id="w", max_jobs=1)
        request.queues.add(name="emails")
        assert not (await calls.queue.Reserve(request, timeout=10)).leases
        request.wait.seconds = 20
        waiting = calls.queue.Reserve(request, timeout=30)
        write(broker.folder)
        await reread(broker, "queues.emails.paused")
        assert len((await waiting).leases) == 1


async def test_what_cannot_change_goes_on_and_is_named(broker: BrokerProcess) -> None:
    write(broker.folder, 'processes = 2\n[stores]\nfast = "redis://:secret@h"\n[limits]\nbatch = 5')
    for _ in range(2):  # for as long as it is so
        told = await reread(broker, "settings that take effect at the next start")
        assert "WARNING" in told
        assert "stores.fast, processes, limits.batch" in told
        assert "secret" not in told
    assert await push(broker, "emails") == "pushed"


async def test_with_a_mistake_all_stays_as_it_was(broker: BrokerProcess) -> None:
    write(broker.folder, 'drain_timeout = "soon"\nprocesses = 0', "max_depth = 1")
    told = await reread(broker, "refused; those before stay in force")
    assert "wrong setting: drain_timeout: 'soon' is no length of time" in told
    assert "towline-broker.toml, line 3" in told
    assert "wrong setting: processes: 0: expected a whole number, 1 to 256" in told
    assert await push(broker, "emails") == await push(broker, "emails") == "pushed"
    (broker.folder / "towline-broker.toml").write_text("[limits")
    assert "cannot be read" in await reread(broker, "refused; those before stay in force")
    write(broker.folder, "", "max_depth = 1")
    await reread(broker, "in force from now on: queues.emails.max_depth")
    assert await push(broker, "emails") == "QUEUE_FULL"


async def test_systemd_is_told_when_it_begins_and_ends_refused_or_not(
    broker: BrokerProcess, systemd: socket.socket
) -> None:
    """What Type=notify-reload waits for."""

    heard: list[str] = []

    async def settled() -> bool:
        with suppress(BlockingIOError):
            while True:
                heard.append(systemd.recv(4096).decode().split("\n")[0])
        return heard[-1:] == ["READY=1"]

    await settled()  # what was told before, as far as there was room for it
    await reread(broker, "settings reread")
    await until(settled, "systemd is told")
    heard.clear()
    await reread(broker, "settings reread")
    await until(settled, "systemd is told")
    write(broker.folder, "processes = 0")
    await reread(broker, "stay in force")
    await until(settled, "systemd is told")
    assert heard == ["RELOADING=1", "READY=1"] * 2


async def test_the_log_changes_with_its_settings(broker: BrokerProcess) -> None:
    write(broker.folder, 'log_format = "json"')
    await reread(broker, "settings reread")
    assert '"message": "settings reread; nothing' in await reread(broker, "settings reread")
    path = broker.folder / "towline-broker.toml"
    path.write_text(path.read_text().replace('"info"', '"error"'))
    broker.send_signal(signal.SIGHUP)
    write(broker.folder, "drain_timeout = []")
    told = await reread(broker, "stay in force")
    assert '"level": "info"' not in told


SHARED_STORE = """
from msgspec.structs import replace
from towline_broker.drivers.memory import open_memory

def open_store(url):
    driver = open_memory("memory:")
    class Shared:
        capabilities = replace(driver.capabilities, shared=True)
        async def open(self, now, listener):
            await driver.open(now, listener)
            return now
        def __getattr__(self, name):
            return getattr(driver, name)
    return Shared()
"""


async def test_every_process_takes_the_settings_over_also_one_that_comes_later(
    tmp_path: Path,
) -> None:
    write(tmp_path, "processes = 2")
    environment = install(tmp_path, "shared", SHARED_STORE)
    options = ("--http", "off")
    with BrokerProcess("shared:", *options, folder=tmp_path, environment=environment) as broker:
        write(tmp_path, 'processes = 2\ndrain_timeout = "7s"')
        await reread(broker, "in force from now on: drain_timeout")
        first, second = broker.members
        os.kill(first, signal.SIGHUP)  # as "systemctl kill" does; they hear of it from their parent
        os.kill(second, signal.SIGKILL)

        async def replaced() -> bool:
            return "serves in its place" in broker.log

        await until(replaced, "another process serves")
        assert first in broker.members
        write(tmp_path, 'processes = 2\ndrain_timeout = "7s"', "lease = 5")
        await reread(broker, "in force from now on: queues.emails.lease")
        assert broker.stop() == 0
        assert broker.log.count("draining for up to 7 s") == 2
        assert "has not taken" not in broker.log


#: Makes its standard input the terminal of a session of its own, as a terminal window does.
AT_TERMINAL = """
import os, sys
os.setsid()
os.open(os.ttyname(0), os.O_RDWR)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def window(tmp_path: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The open side of a terminal, and the broker that was started in it."""
    ours, theirs = os.openpty()
    with (tmp_path / "errors").open("wb") as told:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", AT_TERMINAL, *COMMAND, "serve", "--store", "memory:"),
                *("--listen", "127.0.0.1:0", "--http", "off", "--ready-file", "ready"),
            ],
            cwd=tmp_path,
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=told,
        )
    os.close(theirs)
    try:
        yield ours, process
    finally:
        process.kill()
        process.wait()


async def test_a_broker_whose_terminal_is_gone_stops(
    window: tuple[int, "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    ours, process = window

    async def serves() -> bool:
        return (tmp_path / "ready").exists()

    await until(serves, "the broker serves")
    os.close(ours)
    assert await asyncio.to_thread(process.wait, 30) == 0
    assert "stopped" in (tmp_path / "errors").read_text()


class SlowSources(Sources):
    """Those of a file with settings for thousands of queues."""

    #: Read so often, and let go on.
    reads = 0
    read = threading.Event()

    def load(self) -> Loaded:
        type(self).reads += 1
        assert self.read.wait(20)
        return super().load()


async def test_calls_are_answered_while_settings_are_reread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    taken: list[Settings] = []
    reloading = Reloading(Settings(), SlowSources({"log_level": "error"}), Systemd())
    reloading._hear()
    reloading.begin(taken.append)

    async def is_reading() -> bool:
        return SlowSources.reads == 1

    await until(is_reading, "the settings are being read")  # and this loop goes on
    for _ in range(3):
        reloading._hear()
    assert taken == []
    SlowSources.read.set()

    async def is_over() -> bool:
        return len(taken) == 2

    await until(is_over, "they are taken over, once more for those who asked meanwhile")
    assert {each.log_level for each in taken} == {"error"}
    assert SlowSources.reads == 2


async def test_a_defect_at_a_reload_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    reloading = Reloading(Settings(), Sources({}), Systemd())
    taken = []

    def fail(settings: Settings) -> None:
        taken.append(settings)
        raise KeyError("defect")

    reloading.begin(fail)

    async def is_over() -> bool:
        return "the settings cannot be reread; those before stay in force" in caplog.text

    for _ in range(2):
        caplog.clear()
        reloading._hear()
        await until(is_over, "it is told")
    assert len(taken) == 2


def test_settings_of_many_queues_are_told_in_few_words() -> None:
    wanted = Settings(queues={f"q{number}": {"max_depth": 1} for number in range(1_000)})
    places = differences(Settings(), wanted)
    assert len(places) == 1_000
    assert len(_named(places)) < 2_000
    assert _named(places).endswith(", queues.q49.max_depth and 950 more")


def test_of_settings_that_differ_only_the_live_are_taken_over() -> None:
    running = Settings(
        store="memory:",
        stores={"fast": "memory:"},
        queues={"a": {"store": "fast", "max_depth": 1}, "gone": {"lease": 5}},
    )
    wanted = Settings(
        store="sqlite:///x.db",
        stores={"slow": "memory:"},
        queues={"a": {"store": "slow", "lease": 2}, "new": {"store": "slow", "paused": True}},
        log_level="debug",
        core={"max_waiters": 5},
    )
    settings = taken_over(running, wanted)
    assert settings.log_level == "debug"
    assert (settings.store, settings.stores) == ("memory:", {"fast": "memory:"})
    assert settings.queues["a"].store == "fast"
    assert (settings.queues["a"].max_depth, settings.queues["a"].lease) == (None, 2 * SECOND)
    assert (settings.queues["new"].store, settings.queues["new"].paused) == (None, True)
    assert "gone" not in settings.queues
    assert set(differences(settings, wanted)) == {
        ("store",),
        ("stores", "fast"),
        ("stores", "slow"),
        ("queues", "a", "store"),
        ("queues", "new", "store"),
        ("core", "max_waiters"),
    }
    assert taken_over(settings, running) == running


def test_live_settings_that_need_others_to_change_first_are_refused() -> None:
    running = Settings()
    wanted = Settings(limits={"max_lease": "20h"}, queues={"a": {"lease": "15h"}})
    with pytest.raises(ConfigError, match=r"queues\.a\.lease.*only change at the next start"):
        taken_over(running, wanted)


def test_of_each_setting_it_is_said_what_it_is_for_and_when_a_change_takes_effect() -> None:
    """By a docstring below it, and by LIVE or AT_START at it or at its section."""
    settings = all_settings()
    assert [".".join(each.place) for each in settings if each.live is None] == []
    assert [".".join(each.place) for each in settings if not each.description] == []
