"""A broker that speaks TLS: to whom, with which versions, and how its certificate is renewed."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority, Certificate
from tests.support.servers.redis import RedisServer
from towline import Client, PermissionDenied, Unauthenticated

AUTHORITY = Authority()


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    """Options of a broker whose certificate is in ``tmp_path``."""
    cert, key = AUTHORITY.issue().write(tmp_path)
    return ["--tls-cert", str(cert), "--tls-key", str(key)]


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def serial(address: str) -> int:
    """Of the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


class Calling:
    """Calls in a thread, now over one connection and now over a new one, until ``stop``."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.made = 0
        self.failures: list[Exception] = []

    def wait_for(self, count: int) -> None:
        eventually(lambda: self.made >= count)

    def __enter__(self) -> "Calling":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        trusted = AUTHORITY.credentials()
        with Client(self._address, credentials=trusted) as long_lived:
            while not self._stopped.is_set():
                try:
                    long_lived.dispatch("Greet", queue="q")
                    with Client(self._address, credentials=trusted) as young:
                        young.dispatch("Greet", queue="q")
                except Exception as error:
                    self.failures.append(error)
                self.made += 2


def test_certificates_are_renewed_under_running_calls_and_none_fails(
    tls: list[str], tmp_path: Path
) -> None:
    with BrokerProcess("memory:", *tls) as broker:
        shown = renewed(broker, tmp_path)
        log = broker.log
    assert len(set(shown)) == 4
    assert log.count("new certificate in use") == 3
    assert log.count("holds no certificate in PEM form") == 1
    assert "stays in use" in log
    assert "Handshake failed" not in log


def renewed(broker: BrokerProcess, folder: Path) -> list[int]:
    """The serials that were shown, while all calls succeeded."""
    with Calling(broker.address) as calling:
        shown = [serial(broker.address)]
        for days in (60, 30, 10):
            enough = calling.made + 4
            AUTHORITY.issue(ends=timedelta(days=days)).write(folder)
            eventually(lambda: serial(broker.address) not in shown)
            shown.append(serial(broker.address))
            calling.wait_for(enough)
        # What is no good changes nothing, and is told.
        (folder / "broker.pem").write_text("nonsense")
        assert serial(broker.address) == shown[-1]
        assert serial(broker.address) == shown[-1]
    assert calling.failures == []
    return shown


def test_processes_on_one_port_all_speak_tls(tls: list[str]) -> None:
    with (
        RedisServer("valkey") as store,
        BrokerProcess(store.url, *tls, "--processes", "2") as broker,
    ):
        for _ in range(8):
            trusted = AUTHORITY.credentials()
            with Client(f"grpcs://{broker.address}", credentials=trusted) as client:
                client.stats()
        assert f"--url grpcs://{broker.address}" in broker.output


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Public"]:
    with Public(tmp_path_factory.mktemp("public")) as public:
        yield public


class Public:
    """A broker as one would run it for others: on every address of this machine, over TLS, with
    certificates of clients and with tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = AUTHORITY.write(folder)
        cert, key = AUTHORITY.issue().write(folder)
        settings = folder / "settings.toml"
        settings.write_text(
            f"""
            [tls]
            cert = "{cert}"
            key = "{key}"
            client_ca = "{self.ca}"
            [auth]
            tokens = "{folder / "tokens.json"}"
            [auth.subjects."mailer.internal"]
            push = ["emails"]
            """
        )
        self._settings = ["--config", str(settings)]
        # Its alternative name comes before its common name.
        self.mailer = AUTHORITY.issue("anybody", ["mailer.internal"])
        self.nobody = AUTHORITY.issue("nobody", ["nobody.internal"])
        self.token = self._make("worker", "--push", "emails", "--work", "emails", "--admin")
        self._broker = BrokerProcess("memory:", *self._settings, address="0.0.0.0:0", folder=folder)

    def __enter__(self) -> "Public":
        self._broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.kill()

    @property
    def address(self) -> str:
        """One at which this machine answers."""
        return self._broker.address.replace("0.0.0.0", "127.0.0.1")

    @property
    def log(self) -> str:
        return self._broker.log

    def client(self, certificate: Certificate, token: str | None = None) -> Client:
        return Client(self.address, credentials=AUTHORITY.credentials(certificate), token=token)

    def completed(self) -> int:
        """Jobs, until now."""
        with self.client(self.nobody, self.token) as operator:
            return operator.stats().total.completed

    def environment(self) -> dict[str, str]:
        """That of a worker, with files for all that it proves itself by."""
        cert, key = self.nobody.write(self.folder, "worker")
        file = self.folder / "token"
        file.write_text(self.token + "\n")
        return {
            "TOWLINE_URL": f"grpcs://{self.address}",
            "TOWLINE_CA": str(self.ca),
            "TOWLINE_CERT": str(cert),
            "TOWLINE_KEY": str(key),
            "TOWLINE_TOKEN_FILE": str(file),
        }

    def _make(self, name: str, *rights: str) -> str:
        command = [sys.executable, "-c", "from towline_broker.cli import main; main()"]
        arguments = ["token", "create", "--name", name, *rights, *self._settings]
        made = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
        return made.stdout.strip()


def test_a_public_broker_knows_clients_by_certificate_and_by_token(public: Public) -> None:
    with public.client(public.mailer) as mailer:
        mailer.dispatch("Greet", queue="emails")
        with pytest.raises(PermissionDenied):
            mailer.dispatch("Greet", queue="reports")
    with public.client(public.nobody) as nobody, pytest.raises(Unauthenticated):
        nobody.dispatch("Greet", queue="emails")
    with public.client(public.nobody, public.token) as operator:
        assert operator.stats("emails").total.pending == 1
    wrong = public.token[:-1] + "x"
    with public.client(public.nobody, wrong) as liar, pytest.raises(Unauthenticated) as caught:
        liar.stats()
    assert public.token[:-1] not in str(caught.value)
    assert public.token[:-1] not in public.log
    assert "insecure" not in public.log


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_workers_and_their_processes_are_told_all_by_the_environment(
    public: Public, pool: str, tmp_path: Path
) -> None:
    """Also what a handler dispatches in a child process arrives."""
    (tmp_path / "jobs.py").write_text(
        """
from towline import Job, job

@job(queue="emails", type="Second")
def second(left: int) -> None:
    if left:
        second.dispatch(left - 1)
"""
    )
    environment = {**os.environ, **public.environment()}

    def towline(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "towline.cli", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert public.token not in done.stdout + done.stderr

    before = public.completed()
    towline("push", "Second", '{"left": 2}', "--queue", "emails")
    towline("worker", "jobs", "--pool", pool, "--max-jobs", "3", "--max-time", "30")
    assert public.completed() == before + 3


def test_versions_of_tls(public: Public, tmp_path: Path) -> None:
    shown = public.nobody.write(tmp_path)
    host, _, port = public.address.rpartition(":")
    for version, taken in (("1_1", False), ("1_2", True), ("1_3", True)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=AUTHORITY.pem.decode())
        context.load_cert_chain(*shown)
        context.set_ciphers("ALL:@SECLEVEL=0")  # else the client would not offer the old ones
        context.set_alpn_protocols(["h2"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            wanted = ssl.TLSVersion[f"TLSv{version}"]
            context.minimum_version = context.maximum_version = wanted
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            if taken:
                with context.wrap_socket(plain, server_hostname=host) as secured:
                    assert secured.selected_alpn_protocol() == "h2"
            else:
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    context.wrap_socket(plain, server_hostname=host)


def test_reflection_and_health_answer_over_tls(tls: list[str], tmp_path: Path) -> None:
    ca = AUTHORITY.write(tmp_path)
    with BrokerProcess("memory:", *tls) as broker:
        url = f"https://{broker.address}"
        curl = [str(Path(sys.executable).with_name("buf")), "curl", "--protocol", "grpc"]
        for arguments, expected in (
            (["--list-services", url], "towline.v1.QueueService"),
            (["--data", "{}", f"{url}/grpc.health.v1.Health/Check"], "SERVING"),
        ):
            done = subprocess.run(
                [*curl, "--cacert", str(ca), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert expected in done.stdout, done.stderr
