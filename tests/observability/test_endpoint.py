"""The HTTP server: its address, its probes, and what it does not do."""

import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from cryptography import x509

from tests.observability.shown import ANY_PORT, samples, shown_broker, value
from tests.support.broker_process import BrokerProcess, failed_start
from tests.support.certificates import Authority
from tests.support.faulty_driver import FaultyDriver
from tests.support.servers.ports import free_port
from tests.support.servers.process import wait_until
from tests.support.servers.redis import RedisServer
from towline import Client, JobRequest
from towline_broker.domain.errors import StoreUnavailable
from towline_broker.server.asking import Asked
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import ConfigError, ExitCode
from towline_broker.server.http.endpoint import Opened, http_endpoint
from towline_broker.server.http.https import WebCertificate
from towline_broker.server.http.pages import routes
from towline_broker.server.http.watched import Health

PATIENCE = 20.0


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# --- answers ---


async def test_the_index_leads_to_what_there_is() -> None:
    async with shown_broker() as shown:
        index = await shown.web.get("/")
        assert index.headers["content-type"].startswith("text/html")
        for path in ("metrics", "livez", "readyz"):
            assert f'href="{path}"' in index.text
            assert (await shown.web.get(f"/{path}")).status_code == 200
            assert (await shown.web.head(f"/{path}")).status_code == 200
        metrics = await shown.web.get("/metrics")
        assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_nothing_can_be_changed_and_little_is_told_of_the_server() -> None:
    async with shown_broker() as shown:
        for path in ("/", "/metrics", "/livez", "/readyz"):
            assert (await shown.web.post(path, content=b"x")).status_code == 405
        answer = await shown.web.get("/nothing")
        assert answer.status_code == 404
        assert answer.headers["server"] == "towline-broker"


def test_nobody_fills_the_log_with_what_is_no_request_or_with_connections() -> None:
    many = "export TOWLINE_HTTP__CONNECTIONS=1000"  # more than there are files
    few_files = ("sh", "-c", f'ulimit -n 200; {many}; exec "$@"', "sh")
    where = ("--http", f"127.0.0.1:{free_port()}")
    with BrokerProcess("memory:", *where, run_by=few_files) as broker, ExitStack() as open_:
        address = ("127.0.0.1", int(where[1].rpartition(":")[2]))
        for garbage in (b"GET /\0 HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n"):
            with socket.create_connection(address, PATIENCE) as client:
                client.sendall(garbage)
                assert client.recv(100).startswith(b"HTTP/1.0 400 Bad Request")
        assert "Error handling" not in broker.log
        for _ in range(220):
            open_.enter_context(socket.create_connection(address, PATIENCE))
        told = "the HTTP server can accept no connection"
        wait_until(lambda: told in broker.log, "it is told")
        time.sleep(1.5)  # in which it tries again
        assert broker.log.count(told) == 1
        open_.close()
        assert get(address[1], "/livez") == (200, "alive\n")


class Counting:
    """Shown in the place of a broker; counts how often it is looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    async def metrics(self) -> bytes:
        self.looks += 1
        self.begun.set()
        await self.let_go.wait()
        return b"look %d" % self.looks

    async def health(self) -> Health:
        return Health([], [])


async def test_scrapes_at_the_same_time_are_written_once() -> None:
    watched = Counting()
    (page,) = (cast(Any, route.handler) for route in routes(watched) if route.path == "/metrics")
    request = make_mocked_request("GET", "/metrics")
    first = asyncio.create_task(page(request))
    await watched.begun.wait()
    others = [asyncio.create_task(page(request)) for _ in range(20)]
    await asyncio.sleep(0)
    watched.let_go.set()
    assert (await first).body == b"look 1"
    assert {(await other).body for other in others} == {b"look 2"}


async def test_a_large_scrape_comes_compressed_to_who_wants_it() -> None:
    async with shown_broker() as shown:
        answer = await shown.web.get("/metrics", headers={"Accept-Encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert "towline_build_info" in answer.text


# --- probes ---


async def test_a_broker_that_drains_is_alive_and_not_ready() -> None:
    async with shown_broker() as shown:
        assert (await shown.web.get("/readyz")).text == "ready\n"
        await shown.server.drain(0)
        answer = await shown.web.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready\nthe broker is draining\n")
        assert (await shown.web.get("/livez")).status_code == 200
        assert value(await shown.samples(), "towline_draining") == 1


async def test_readiness_names_the_stores_that_give_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("towline_broker.server.http.one_process.RECENT", 0.0)
    monkeypatch.setattr("towline_broker.server.http.one_process.PROBE_PATIENCE", 0.2)
    http = HttpSettings(listen=ANY_PORT)
    both = Settings(store="memory:", stores={"fast": "memory:"}, listen=ANY_PORT, http=http)
    drivers = {"default": FaultyDriver(), "fast": FaultyDriver()}
    async with shown_broker(
        both, drivers={name: it.driver for name, it in drivers.items()}
    ) as shown:
        drivers["fast"].errors["next_due"] = StoreUnavailable("gone")
        answer = await shown.web.get("/readyz")
        # Queues of the other store are served.
        assert (answer.status_code, answer.text) == (200, "ready\nstore fast gives no answer\n")
        drivers["default"].hold("next_due")  # it takes the question, and is not heard of again
        answer = await shown.web.get("/readyz")
        assert answer.status_code == 503
        assert answer.text == (
            "not ready\nstore default gives no answer\nstore fast gives no answer\n"
        )
        drivers["default"].let_go("next_due")
        drivers["fast"].errors.clear()
        answer = await shown.web.get("/readyz")
        assert (answer.status_code, answer.text) == (200, "ready\n")


def test_a_broker_that_waits_for_its_store_is_alive_and_not_ready(tmp_path: Path) -> None:
    port = free_port()
    store = f"redis://127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", "from towline_broker.cli import main; main()", "serve"]
    options = ["--store", store, "--listen", ANY_PORT, "--http", f"127.0.0.1:{port}"]
    with subprocess.Popen([*command, *options], cwd=tmp_path, stderr=subprocess.DEVNULL) as broker:
        try:
            deadline = time.monotonic() + PATIENCE
            while (alive := _alive(port)) is None:
                assert time.monotonic() < deadline
                assert broker.poll() is None
                time.sleep(0.02)
            assert alive == (200, "alive\n")
            assert get(port, "/readyz") == (503, "not ready\nthe broker is starting\n")
            assert get(port, "/metrics")[0] == 503
        finally:
            broker.send_signal(signal.SIGTERM)
            broker.wait(PATIENCE)


def _alive(port: int) -> tuple[int, str] | None:
    try:
        return get(port, "/livez")
    except OSError:
        return None


# --- addresses ---


@asynccontextmanager
async def endpoint(settings: HttpSettings, insecure: bool = False) -> AsyncIterator[Opened]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    async with http_endpoint(settings, [web.get("/", answer)], insecure=insecure) as opened:
        yield opened


async def test_an_address_for_other_machines_has_to_be_wanted() -> None:
    everywhere = "0.0.0.0:0"
    with pytest.raises(ConfigError, match=r"http\.listen: 0\.0\.0\.0:0 .* http\.public = true"):
        async with endpoint(HttpSettings(listen=everywhere)):
            pass
    async with endpoint(HttpSettings(listen=everywhere, public=True)) as opened:
        assert opened.address is not None
        async with httpx.AsyncClient() as web_client:
            answer = await web_client.get(f"http://127.0.0.1:{opened.address.port}/")
        assert answer.text == "here"
    async with endpoint(HttpSettings(listen=everywhere), insecure=True) as opened:
        assert opened.address is not None


def test_an_address_that_was_chosen_must_be_free(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--store", "sqlite:///jobs.db", "--listen", ANY_PORT, "--http", address]
        code, said = failed_start(options, tmp_path)
    assert code == ExitCode.UNAVAILABLE
    assert said == (
        f"towline-broker: http.listen: cannot listen on {address}: the port is in use; is another "
        "broker running? Choose another with --http HOST:PORT\n"
    )
    assert not (tmp_path / "jobs.db").exists()


async def test_a_second_broker_of_a_machine_goes_without_the_default_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        # As if that were the default: nobody has set it.
        default = HttpSettings.model_construct(listen=address)
        default.model_fields_set.clear()
        assert not default.chosen
        async with endpoint(default) as opened:
            assert opened.address is None
            opened.tell()
    assert f"no figures and no probes over HTTP: http.listen: cannot listen on {address}" in (
        caplog.text
    )
    assert HttpSettings(listen=address).chosen
    assert not Settings(http=HttpSettings(public=True)).http.chosen


@pytest.mark.parametrize("off", ["off", "OFF", ""])
def test_it_can_be_switched_off(off: str) -> None:
    assert HttpSettings(listen=off).address is None


def test_a_broker_without_it_does_not_load_what_it_needs() -> None:
    program = (
        "import sys, towline_broker.cli, towline_broker.embedded; "
        "import towline_broker.server.life.member; "
        "print([name for name in ('aiohttp', 'prometheus_client') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


# --- TLS ---


async def test_it_speaks_tls_and_takes_a_renewed_certificate_over(tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    settings = HttpSettings(listen=ANY_PORT, tls=True)
    trust = ssl.create_default_context(cafile=str(authority.write(tmp_path)))
    certificate = WebCertificate(TlsSettings(cert=cert, key=key))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("towline_broker.server.http.endpoint.WebCertificate", lambda _: certificate)
        async with http_endpoint(settings, []) as opened:
            assert opened.address is not None
            port = opened.address.port
            before = await serial(port, trust)
            key.write_bytes(authority.issue().key)  # half of a new pair
            await certificate.look()
            assert await serial(port, trust) == before
            authority.issue().write(tmp_path)
            await certificate.look()
            assert await serial(port, trust) != before


async def serial(port: int, trust: ssl.SSLContext) -> int:
    """Of the certificate that a new connection is shown, and trusts."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


@pytest.mark.parametrize("processes", [1, 2])
def test_the_end_of_each_certificate_is_told(
    tmp_path: Path, processes: int, redis_server: RedisServer
) -> None:
    authority = Authority()
    cert, key = authority.issue(ends=timedelta(days=90)).write(tmp_path)
    clients = tmp_path / "clients.pem"
    clients.write_bytes(Authority(ends=timedelta(days=300)).pem + Authority().pem)
    web = f"127.0.0.1:{free_port()}"
    config = tmp_path / "broker.toml"
    config.write_text(
        f'[tls]\ncert = "{cert}"\nkey = "{key}"\nclient_ca = "{clients}"\n[http]\ntls = true\n'
    )
    options = ("--config", str(config), "--http", web, "--processes", str(processes))
    store = redis_server.url if processes > 1 else "memory:"
    now = time.time()
    with BrokerProcess(store, *options):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        told = samples(httpx.get(f"https://{web}/metrics", verify=context).text)
    name = "towline_certificate_expires_timestamp_seconds"
    ends = {
        (dict(labels)["certificate"], dict(labels).get("process", "")): round((end - now) / 86400)
        for (its, labels), end in told.items()
        if its == name
    }
    numbers = ["0", "1"] if processes > 1 else [""]
    expected = {("grpc", number): 90 for number in numbers}
    expected |= {("client_ca", number): 300 for number in numbers}
    assert ends == {**expected, ("http", ""): 90}


def test_tls_needs_a_certificate_that_serves(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"http\.tls: .* set tls\.cert and tls\.key"):
        WebCertificate(TlsSettings())
    nothing = TlsSettings(cert=tmp_path / "no.pem", key=tmp_path / "no.key")
    with pytest.raises(ConfigError, match=r"http\.tls: tls\.cert .*no\.pem .*No such file"):
        WebCertificate(nothing)


# --- several processes ---


def test_several_processes_are_shown_at_one_place(redis_server: RedisServer) -> None:
    port = free_port()
    store = f"redis://{redis_server.address}/?prefix=shown"
    options = ("--processes", "2", "--http", f"127.0.0.1:{port}")
    with BrokerProcess(store, *options) as broker:
        assert get(port, "/readyz") == (200, "ready\n")
        for _ in range(8):
            with Client(broker.address) as client:
                client.dispatch_batch([JobRequest("X", {})] * 3, queue="shown")
        found = samples(get(port, "/metrics")[1])
        # What the store tells is told once.
        pushed = value(found, "towline_jobs_pushed_total", store="default", queue="shown")
        assert pushed == 24
        calls = {
            dict(labels)["process"]: count
            for (name, labels), count in found.items()
            if name == "towline_rpcs_total" and ("method", "QueueService/Push") in labels
        }
        assert sum(calls.values()) == 8
        assert value(found, "towline_process_up", process="0") == 1
        assert value(found, "towline_process_up", process="1") == 1
        broker.stop()


class Pipe:
    """Both ends of a question, in one process."""

    async def __aenter__(self) -> "tuple[Asked, asyncio.StreamReader, asyncio.StreamWriter]":
        here, there = socket.socketpair()
        said, told = await asyncio.open_connection(sock=here)
        self.questions, self.answers = await asyncio.open_connection(sock=there)
        self._told = told
        return Asked(told, said), self.questions, self.answers

    async def __aexit__(self, *_: object) -> None:
        for writer in (self._told, self.answers):
            writer.close()
            with suppress(ConnectionError):  # the other end may be closed already
                await writer.wait_closed()


async def test_an_answer_that_comes_too_late_is_not_taken_for_another() -> None:
    async with Pipe() as (asked, questions, answers):
        assert await asked.ask("slow", 0.05) is None
        assert await questions.readline() == b"slow\n"
        assert await asked.ask("quick", 0.05) is None  # the other one is still at it
        answers.write(b"4\nlate")
        second = asyncio.create_task(asked.ask("quick", PATIENCE))
        assert await questions.readline() == b"quick\n"
        answers.write(b"3\nnow")
        assert await second == b"now"


async def test_who_is_gone_gives_no_answer() -> None:
    async with Pipe() as (asked, _, answers):
        answers.close()
        assert await asked.ask("anything", PATIENCE) is None


def test_settings_reach_the_processes_as_they_are() -> None:
    settings = Settings(http=HttpSettings(listen="off", queues=7))
    sent = json.loads(settings.model_dump_json())
    assert Settings.model_validate(sent).http == settings.http
