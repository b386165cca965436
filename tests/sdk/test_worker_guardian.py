"""Leases of handlers that let nothing else run in their process, and of processes that are gone."""

import contextlib
import logging
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import grpc
import psutil  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.sdk.fake_broker import FakeBroker
from tests.sdk.running import fake_broker
from tests.support.broker_process import BrokerProcess
from tests.support.standstill import Standstill
from towline import (
    Client,
    ConfigurationError,
    JobHandle,
    Registry,
    TlsCredentials,
    Worker,
    current_job,
    job,
)
from towline.channel import Connection
from towline.v1.queue_service_pb2_grpc import add_QueueServiceServicer_to_server
from towline.worker import guardian_process
from towline.worker.guardian import Guardian, watched_ledger
from towline.worker.ledger import Ledger

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0
#: On a busy machine it takes a while to load gRPC.
LEASE = 3.0

pytestmark = pytest.mark.skipif(os.name != "posix", reason="guardians need POSIX")


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as server:
        yield server


@pytest.fixture
def client(server: BrokerProcess) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


class Program:
    """The program of this test as a child process, working on a queue of its own."""

    def __init__(self, server: BrokerProcess, queue: str, *options: object) -> None:
        arguments = [server.address, queue, *map(str, options)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.sdk.guardian_program", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def has_started_a_job(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n"

    def is_kept_by_its_guardian(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "keeping its leases" in line:
                return
        raise AssertionError("its guardian said nothing")

    @property
    def guardian(self) -> psutil.Process:
        [child] = psutil.Process(self.process.pid).children()
        return child


@contextlib.contextmanager
def program(
    server: BrokerProcess,
    queue: str,
    pool: str,
    lease: float = LEASE,
    *,
    guardian: bool = True,
    concurrency: int = 1,
) -> Iterator[Program]:
    # With one slot, none of its calls waits for jobs while it cannot take any.
    running = Program(server, queue, pool, lease, int(guardian), concurrency)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


class SecondWorker:
    """Waits for whatever the first one loses; its runs are the attempts that it was given."""

    def __init__(self, server: BrokerProcess, *queues: str) -> None:
        self.runs: list[int] = []
        self.registry = Registry()

        def run(seconds: float) -> int:
            self.runs.append(current_job().attempt)
            return current_job().attempt

        for name in ("hold_gil", "hold_gil_on_loop", "spin", "spin_on_loop"):
            job(type=name, registry=self.registry)(run)
        self.worker = Worker(server.address, queues, registry=self.registry, guardian=False)

    def __enter__(self) -> "SecondWorker":
        self.worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.stop(0)


def dispatch(
    client: Client, queue: str, name: str, seconds: float, timeout: float | None = None
) -> JobHandle:
    data = {"seconds": seconds}
    return client.dispatch(name, data, queue=queue, retention=60, timeout=timeout)


def eventually(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("in_thread", "on_loop", "lease"),
    [("hold_gil", "hold_gil_on_loop", LEASE), ("spin", "spin_on_loop", 2.0)],
)
def test_a_handler_that_lets_nothing_else_run_keeps_its_lease_for_three_of_them(
    server: BrokerProcess, client: Client, in_thread: str, on_loop: str, lease: float
) -> None:
    threads, loops = f"threads.{in_thread}", f"loops.{on_loop}"
    with (
        program(server, threads, "thread", lease) as first,
        program(server, loops, "async", lease) as second,
    ):
        handles = [
            dispatch(client, threads, in_thread, 3 * lease),
            dispatch(client, loops, on_loop, 3 * lease),
        ]
        first.has_started_a_job()
        second.has_started_a_job()
        with SecondWorker(server, threads, loops) as waiting:
            assert [handle.result(PATIENCE) for handle in handles] == [1, 1]
        assert waiting.runs == []


def test_without_a_guardian_another_worker_is_given_the_job(
    server: BrokerProcess, client: Client
) -> None:
    with program(server, "alone", "thread", lease=1, guardian=False) as first:
        handle = dispatch(client, "alone", "hold_gil", PATIENCE)
        first.has_started_a_job()
        with SecondWorker(server, "alone") as waiting:
            assert handle.result(PATIENCE) == 2
        assert waiting.runs == [2]


def test_jobs_do_not_go_to_a_worker_that_cannot_take_them(
    server: BrokerProcess, client: Client
) -> None:
    with program(server, "stuck", "thread", concurrency=3) as first:
        # Its next call for jobs waits at the broker by then.
        data = {"seconds": 3 * LEASE, "after": 2}
        hog = client.dispatch("hold_gil", data, queue="stuck", retention=60)
        first.has_started_a_job()
        on_its_way = dispatch(client, "stuck", "spin", 0)
        first.is_kept_by_its_guardian()
        with SecondWorker(server, "stuck") as waiting:
            later = dispatch(client, "stuck", "spin", 0)
            begun = time.monotonic()
            assert later.result(PATIENCE) == 1
            assert time.monotonic() - begun < LEASE
            assert waiting.runs == [1]
            assert hog.result(PATIENCE) == 1
            # Granted to the first worker, which could not even see it, for more than a lease.
            assert on_its_way.result(PATIENCE) == 1
        assert waiting.runs == [1]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_the_leases_of_a_stopped_or_dead_worker_are_not_kept(
    server: BrokerProcess, client: Client, number: int
) -> None:
    queue = signal.Signals(number).name
    with program(server, queue, "thread", lease=2) as first:
        handle = dispatch(client, queue, "spin", PATIENCE)
        first.has_started_a_job()
        guardian = first.guardian
        with SecondWorker(server, queue), Standstill() as standstill:
            os.kill(first.process.pid, number)
            stopped_at = time.monotonic()
            assert handle.result(PATIENCE) == 2
            took = time.monotonic() - stopped_at
        # A heartbeat may have gone out just before; the rest is for a busy machine.
        assert took < 2 + 1 + 1 + standstill.longest
        assert _has_ended(guardian) is (number == signal.SIGKILL)


def _has_ended(process: psutil.Process) -> bool:
    try:
        # Its parent is dead, and who takes its place may be slow to hear of its end.
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_job_with_a_timeout_is_kept_for_that_and_a_lease_and_no_longer(
    server: BrokerProcess, client: Client
) -> None:
    with program(server, "limited", "thread", lease=2) as first:
        dispatched = time.monotonic()
        handle = dispatch(client, "limited", "hold_gil", PATIENCE, timeout=2)
        first.has_started_a_job()
        begun = time.monotonic()
        with SecondWorker(server, "limited"):
            assert handle.result(PATIENCE) == 2
            given = time.monotonic()
        assert given - dispatched > 2 + 2 - 1
        assert given - begun < 2 + 2 + 2 + 2


def test_a_guardian_that_is_not_needed_costs_next_to_nothing(
    server: BrokerProcess, client: Client
) -> None:
    with program(server, "quiet", "thread", lease=1) as first:
        dispatch(client, "quiet", "spin", 0.5).result(PATIENCE)
        guardian = first.guardian
        libraries = {Path(each.path).name for each in guardian.memory_maps()}
        assert not any("cygrpc" in name for name in libraries)
        assert guardian.memory_info().rss < 20 * 2**20
        assert sum(guardian.cpu_times()[:2]) < 0.3
        os.kill(first.process.pid, signal.SIGTERM)
        assert first.process.wait(PATIENCE) == 0
        eventually(lambda: not guardian.is_running())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks /proc")
def test_it_outlives_the_signals_after_which_its_worker_finishes_jobs(
    server: BrokerProcess, client: Client
) -> None:
    def ignores(number: int) -> bool:
        status = Path(f"/proc/{first.guardian.pid}/status").read_text()
        [mask] = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")]
        return bool(int(mask, 16) >> (number - 1) & 1)

    with program(server, "group", "thread", lease=1) as first:
        dispatch(client, "group", "spin", 0).result(PATIENCE)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            eventually(lambda: ignores(number))  # noqa: B023


@pytest.mark.parametrize(("code", "hung"), [("pass", True), ("while True: pass", False)])
def test_a_worker_that_uses_no_processor_counts_as_hung_after_a_time(code: str, hung: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.stdin\n{code}\nimport time; time.sleep(100)"]
    ) as process:
        try:
            # Until it has started, it is busy.
            eventually(lambda: hung or guardian_process.processor_seconds(process.pid) > 0.1)
            time.sleep(0.5 if hung else 0)
            worker = guardian_process.Worker(process.pid, hung_after=0.5)
            assert not worker.is_hung(time.monotonic(), 0)
            begun = time.monotonic()
            while time.monotonic() - begun < 1:
                worker.is_hung(time.monotonic(), 0)
                time.sleep(0.2)
            # (One that works seems to hang just after the machine has.)
            eventually(lambda: worker.is_hung(time.monotonic(), 0) is hung)
        finally:
            process.kill()


def test_the_state_and_use_of_a_process_are_told_without_proc_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without_proc(pid: int) -> None:
        return None

    used = guardian_process.processor_seconds(os.getpid())
    monkeypatch.setattr(guardian_process, "_proc_stat", without_proc)
    assert guardian_process.process_state(os.getpid()) in "RS"
    assert guardian_process.process_state(2**22 + 1) == "X"
    assert abs(guardian_process.processor_seconds(os.getpid()) - used) <= 2


def test_what_no_other_process_can_be_told_is_said_and_the_worker_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = psutil.Process().children()
    client = Client("127.0.0.1:1", credentials=grpc.ssl_channel_credentials())
    worker = Worker(client, registry=Registry())
    with caplog.at_level(logging.WARNING, "towline.worker"), worker:
        assert worker.running
        assert psutil.Process().children() == before
    assert "no guardian" in caplog.text
    assert "towline.TlsCredentials" in caplog.text


class Watched:
    """A guardian in this process, over a ledger of its own, with a clock that the test holds."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.ledger = Ledger(slots=3, usual_lease=10)
        self.sent: list[list[str]] = []
        self.answer: dict[str, float | None] = {}
        self.said: list[str] = []
        self.called_home: list[str] = []
        self.granted: dict[str, float | None] = {}
        self.process = guardian_process.Worker(os.getppid(), hung_after=1000)
        self.guardian = guardian_process.Guardian(
            mmap.mmap(self.ledger.fd, self.ledger.size, access=mmap.ACCESS_READ),
            self.process,
            lambda: self,
            self.said.append,
        )

    def heartbeat(self, tokens: list[str], timeout: float) -> dict[str, float | None]:
        assert 1 <= timeout <= 10 / 3
        self.sent.append(tokens)
        return {token: self.answer[token] for token in tokens if token in self.answer}

    def call_home(self, request_id: str, timeout: float) -> dict[str, float | None]:
        self.called_home.append(request_id)
        return self.granted

    def hold(self, token: str, timeout: float | None = None, length: float = 10.0) -> None:
        self.ledger.add(token, self.begun + length, length, timeout)

    def look(self, seconds: float) -> float:
        """So long after the beginning."""
        return self.guardian.look(self.begun + seconds)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.ledger.close()


def test_it_sends_for_what_is_held_once_half_of_a_lease_is_over_without_a_word(
    watched: Watched,
) -> None:
    assert watched.look(100) == pytest.approx(2.5)
    for token in ("a", "b", "c", "no room"):
        watched.hold(token)
    watched.ledger.remove("b")
    watched.hold("x" * 1000)
    assert watched.look(1) == pytest.approx(2.5)
    assert watched.look(4) == pytest.approx(1, abs=0.1)
    assert not watched.sent
    watched.look(5.1)
    assert watched.sent == [["a", "c"]]
    assert watched.said == ["does not send heartbeats: keeping its leases (2 now)"]


def test_it_goes_by_what_the_broker_answers(watched: Watched) -> None:
    watched.hold("kept")
    watched.hold("lost")
    watched.answer = {"kept": 10.0, "lost": None}
    watched.look(6)
    assert watched.look(8) == pytest.approx(2.5)
    watched.look(11.1)
    assert watched.sent == [["kept", "lost"], ["kept"]]
    # No answer: again soon, but not at once.
    watched.answer = {}
    watched.look(17)
    assert watched.look(17.1) == pytest.approx(10 / 6 - 0.1)


def test_a_word_of_the_worker_sends_it_back_to_sleep(watched: Watched) -> None:
    watched.hold("a")
    watched.look(6)
    watched.begun += 6
    watched.ledger.prolong("a", time.monotonic() + 16, 10)
    assert len(watched.sent) == 1
    watched.ledger.worker_is_well()
    watched.look(1)
    assert len(watched.sent) == 1


def test_leases_of_several_lengths_are_each_kept_from_their_half_on(watched: Watched) -> None:
    woken: list[None] = []
    watched.ledger.on_shorter = lambda: woken.append(None)
    watched.hold("long", length=7200)
    assert watched.look(0) == pytest.approx(2.5)
    watched.hold("usual", length=9.99)
    assert not woken
    watched.hold("short", length=2)
    assert len(woken) == 1  # its next look would come too late
    watched.answer = {"long": 7200.0, "usual": 10.0, "short": 2.0}
    assert watched.look(0.1) == pytest.approx(0.5)
    watched.look(1.1)
    watched.look(1.5)
    watched.look(2.2)
    assert watched.sent == [["long", "usual", "short"]] * 2
    watched.ledger.remove("short")
    watched.look(6)
    assert len(watched.sent) == 2
    watched.look(7.3)
    assert len(watched.sent) == 3


def test_a_byte_makes_it_look_at_once() -> None:
    """A lease of a second comes to a guardian that sleeps by leases of 30."""
    with fake_broker() as broker:
        worker = Worker(broker.address, registry=Registry())
        ledger, guardian = watched_ledger(Connection.to(broker.address), worker._options)
        assert guardian is not None
        try:
            guardian.start()
            eventually(lambda: psutil.Process(guardian.pid).status() == "sleeping")
            ledger.worker_is_well()
            ledger.add("token", time.monotonic() + 1, 1, None)
            broker.wait_for(lambda: broker.heartbeats)
            assert [lease.lease_token for lease in broker.heartbeats[0].leases] == ["token"]
            # It would have looked after seven and a half seconds.
        finally:
            guardian.close()
            ledger.close()


def test_it_does_not_speak_while_calls_of_the_worker_fail(watched: Watched) -> None:
    watched.hold("a")
    begun = watched.begun
    # The deadline is near, yet the worker has tried just now.
    watched.ledger.prolong("a", time.monotonic() + 1, 10)
    watched.ledger.worker_is_well()
    assert watched.look(time.monotonic() - begun) == pytest.approx(2.5, abs=0.1)
    assert not watched.sent


def test_leases_on_their_way_to_the_worker_are_kept_until_it_is_back(watched: Watched) -> None:
    watched.hold("mine")
    watched.ledger.asking("0" * 36)
    watched.granted = {"mine": 10.0, "coming": 10.0, "gone": 10.0}
    watched.answer = {"mine": 10.0, "coming": 10.0, "gone": None}
    for seconds in (5.5, 9, 14.1, 20):
        watched.look(seconds)
    assert watched.called_home == ["0" * 36]
    assert watched.sent == [["mine"], ["mine", "coming", "gone"], ["mine", "coming"]]
    watched.ledger.prolong("mine", watched.begun + 40, 10)
    watched.ledger.worker_is_well()
    assert watched.look(26) > 0
    assert len(watched.called_home) == 1
    assert len(watched.sent) == 3


def test_a_lease_past_the_timeout_of_its_job_and_a_lease_is_let_go(watched: Watched) -> None:
    watched.hold("limited", timeout=3)
    watched.hold("unlimited")
    # What its last call has brought, and is known: it comes back when that is repeated.
    watched.granted = {"limited": 10.0}
    watched.look(12)
    watched.look(14)
    assert watched.sent == [["limited", "unlimited"], ["unlimited"]]


def test_a_ledger_that_is_closed_takes_nothing_and_harms_nobody(watched: Watched) -> None:
    watched.hold("a")
    watched.ledger.close()
    watched.ledger.worker_is_well()
    watched.ledger.prolong("a", 1.0, 10)
    watched.ledger.remove("a")
    watched.hold("b")


@pytest.mark.parametrize("executable", [None, "", "/usr/bin/uwsgi", "/opt/app/app"])
def test_without_an_interpreter_there_is_no_guardian(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, executable: str | None
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with fake_broker() as broker, Worker(broker.address, registry=Registry()) as worker:
        assert worker.running
    assert "no Python interpreter" in caplog.text


def test_guardian_is_true_or_false() -> None:
    with pytest.raises(ConfigurationError, match="guardian: expected True or False, got 1"):
        Worker(guardian=1)  # type: ignore[arg-type]


@pytest.fixture
def key_and_certificate() -> tuple[bytes, bytes]:
    """PEM of a server and client that vouches for itself: the address is 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "towline")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def test_it_speaks_tls_with_the_credentials_of_its_worker(
    key_and_certificate: tuple[bytes, bytes],
) -> None:
    key, certificate = key_and_certificate
    broker = FakeBroker()
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    add_QueueServiceServicer_to_server(broker, server)
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([(key, certificate)], certificate, require_client_auth=True),
    )
    server.start()
    try:
        credentials = TlsCredentials(certificate, key, certificate)
        connection = Connection.to(f"grpcs://127.0.0.1:{port}", credentials=credentials)
        ledger = Ledger(slots=1, usual_lease=10)
        options = Worker(worker_id="me", lease=10)._options
        message = Guardian(connection, ledger, options).message
        ledger.close()
        told = guardian_process.connect(message)
        assert told.heartbeat(["unknown"], 10) == {"unknown": None}
        assert told.call_home("0" * 36, 10) == {}
        [heartbeat] = broker.heartbeats
        assert heartbeat.worker_id == "me"
        assert [each.request_id for each in broker.reserves] == ["0" * 36]
    finally:
        server.stop(None).wait()
