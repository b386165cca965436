"""``towline-broker health``: what it asks, what it says, and how it ends."""

import signal
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from tests.support.broker_process import BrokerProcess
from tests.support.servers.ports import free_port
from tests.support.waiting import until
from towline_broker.cli import app


def health(*arguments: str) -> tuple[int, str]:
    """The exit code, and what was said."""
    done = CliRunner().invoke(app, ["health", *arguments])
    return done.exit_code, done.output.strip()


@pytest.fixture(scope="module")
def http() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def broker(http: str) -> Iterator[BrokerProcess]:
    delay = {"TOWLINE_DRAIN_DELAY": "30s"}
    with BrokerProcess("memory:", "--http", http, environment=delay) as broker:
        yield broker


async def test_it_tells_whether_a_broker_serves_until_it_drains(
    broker: BrokerProcess, http: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_LISTEN", broker.address)
    for listen in (http, http.replace("127.0.0.1", "0.0.0.0")):
        monkeypatch.setenv("TOWLINE_HTTP__LISTEN", listen)
        assert health() == (0, f"http://{http}/readyz: ready")
    monkeypatch.setenv("TOWLINE_HTTP__LISTEN", "off")
    assert health() == (0, f"{broker.address}: SERVING")
    service = ("--service", "towline.v1.QueueService")
    assert health(broker.address, *service) == (0, f"{broker.address}: SERVING")
    code, said = health(broker.address, "--service", "mail")
    assert (code, said) == (1, f"{broker.address}: it has no service mail")

    broker.send_signal(signal.SIGTERM)

    async def drains() -> bool:
        return health(broker.address) == (1, f"{broker.address}: NOT_SERVING")

    await until(drains, "health says that it drains")
    code, said = health(f"http://{http}/readyz")
    assert code == 1
    assert said.startswith(f"http://{http}/readyz: 503 not ready; the broker is draining")


def test_a_broker_that_is_not_there_does_not_serve() -> None:
    address = f"127.0.0.1:{free_port()}"
    for target in (address, f"http://{address}/readyz"):
        code, said = health(target)
        assert code == 1
        assert said.startswith(f"{target}: no answer: ")
        assert said.endswith("Connection refused")
        assert "last error" not in said


def test_what_answers_otherwise_does_not_serve(broker: BrokerProcess) -> None:
    code, said = health(f"http://{broker.address}/readyz")
    assert code == 1
    assert "no answer" in said


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "text"),
    [
        (("nowhere",), {}, 2, "expected host:port"),
        (("http://a/readyz", "--service", "x"), {}, 2, "give HOST:PORT"),
        (("--timeout", "0"), {}, 2, "--timeout"),
        ((), {"TOWLINE_HTTP__LISTEN": "7481"}, 78, "http.listen"),
        ((), {"TOWLINE_HTTP__TLS": "true"}, 2, "https://broker.internal:7481/readyz"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: tuple[str, ...],
    environment: dict[str, str],
    code: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found, said = health(*arguments)
    assert found == code
    assert text in said
