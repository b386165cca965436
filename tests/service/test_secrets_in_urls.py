"""Urls that are wrong, each with a secret in it: whatever is said of one, the secret is not."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.broker_process import failed_start
from towline import Client, ConfigurationError
from towline_broker.cli import app
from towline_broker.domain.errors import TowlineError
from towline_broker.drivers.registry import create_driver
from towline_broker.server.configuration.auth_settings import JwtSettings
from towline_broker.server.exits import ExitCode
from towline_broker.server.identity.jwt_keys import KeySetUrl

SECRET = "s3cr3t"
KINDS = (
    *("postgresql", "mysql", "redis", "redis+sentinel", "redis+cluster"),
    *("sqlite", "file", "memory", "sqs", "postgrse"),
)
FORMS = (
    "{kind}://u:{secret}@127.0.0.1:1/d",
    "{kind}://u:{secret}@127.0.0.1:1",
    "{kind}://u:{secret}@127.0.0.1:x/d",
    "{kind}://u:{secret}@127.0.0.1:1/d?unknown=1",
    "{kind}://u:{secret}@127.0.0.1:1/d?timeout=never",
    "{kind}://u:{secret}@127.0.0.1:1/d?upgrade=perhaps",
    "{kind}://127.0.0.1:1/d?passwrd={secret}",
    "{kind}://127.0.0.1:1/d?password={secret}&unknown=1",
    "{kind}://127.0.0.1:1/d?{secret}",
    "{kind}://u:{secret}#x@127.0.0.1:1/d",
    "{kind}://u:{secret}/x@127.0.0.1:1/d",
    "{kind}://u:{secret}?x@127.0.0.1:1/d",
    "{kind}://u:x@{secret}@127.0.0.1:1/d",
    "{kind}://u:{secret}",
    "{kind}://:{secret}",
    "{kind}://u:{secret}@[::1/d",
    "{kind}://u:{secret}@/d",
    "{kind}://u%3A{secret}%40127.0.0.1/d",
    "{kind}:u:{secret}@127.0.0.1/d",
    "{kind}//u:{secret}@127.0.0.1/d",
    "{kind}:///?passwrd={secret}",
)
URLS = [form.format(kind=kind, secret=SECRET) for kind in KINDS for form in FORMS]


class Nobody:
    """Hears of jobs, and does nothing."""

    def jobs_ready(self, queue: str, count: int) -> None: ...

    def jobs_coming(self, queue: str, count: int) -> None: ...

    def jobs_ended(self, job_ids: object) -> None: ...


async def _opened(url: str) -> None:
    driver = create_driver(url)
    try:
        await driver.open(0, Nobody())
    finally:
        await driver.close()


def _said_of(url: str) -> str:
    """What a driver that is made tells of it: all errors, or nothing."""
    try:
        driver = create_driver(url)
    except TowlineError as error:
        told = [str(error)]
        # Those that led to it would be shown with it, but for "from None".
        cause: BaseException | None = error
        while cause is not None:
            told.append(str(cause))
            cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
        return "\n".join(told)
    assert SECRET not in repr(driver), url
    return ""


def test_drivers_refuse_urls_without_telling_their_secrets(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level("DEBUG")
    said = {url: _said_of(url) for url in URLS}
    assert {url: text for url, text in said.items() if SECRET in text} == {}
    assert sum(map(bool, said.values())) > len(URLS) / 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "redis", "redis+sentinel"])
async def test_nor_do_they_when_nobody_answers(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with pytest.raises(TowlineError) as caught:
        async with asyncio.timeout(30):
            await _opened(f"{kind}://u:{SECRET}@127.0.0.1:1/d")
    assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text


def test_nor_does_a_check_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Of each kind other forms.
    stores = {f"s{number}": url for number, url in enumerate(URLS) if number % 8 == 0}
    (tmp_path / "broker.json").write_text(json.dumps({"stores": stores}))
    for command in ("check", "show"):
        done = CliRunner().invoke(app, ["config", command, "--config", "broker.json"])
        assert done.output
        assert SECRET not in done.output


def test_nor_does_a_broker_that_does_not_start(tmp_path: Path) -> None:
    url = f"postgresql://u:{SECRET}@127.0.0.1:1/d"
    options = ("--store", url, "--wait-for-store", "500ms", "--log-format", "json")
    code, said = failed_start(options, tmp_path)
    assert code == ExitCode.UNAVAILABLE
    assert "waiting_for_store" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "url",
    [
        f"https://u:{SECRET}@127.0.0.1:1/keys",
        f"https://127.0.0.1:1/keys?token={SECRET}",
        f"https://u:{SECRET}@127.0.0.1:x/keys",
        f"ftp://u:{SECRET}@127.0.0.1/keys",
        f"https://u:{SECRET}",
    ],
)
async def test_nor_is_that_of_keys_told(
    url: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    try:
        settings = JwtSettings(issuer="i", audience="a", jwks_url=url)
    except ValueError:
        jwt = {"issuer": "i", "audience": "a", "jwks_url": url}
        config = tmp_path / "broker.json"
        config.write_text(json.dumps({"auth": {"jwt": jwt}}))
        done = CliRunner().invoke(app, ["config", "check", "--config", str(config)])
        assert "jwks_url" in done.output
        assert SECRET not in done.output
        return
    assert settings.jwks_url is not None
    await KeySetUrl(settings.jwks_url).start()
    assert "the keys cannot be fetched" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("form", ["{scheme}u:{secret}@broker:7480", "{scheme}{secret}@broker:7480"])
@pytest.mark.parametrize("scheme", ["", "grpcs://", "grpc://", "dns:///", "https://"])
def test_nor_does_a_client_tell_that_of_an_address(form: str, scheme: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client(form.format(scheme=scheme, secret=SECRET))
    assert SECRET not in str(caught.value)
