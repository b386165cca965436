"""The broker's certificate: refused with the reason if it is no good, renewed without a restart."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.support.certificates import Authority
from towline_broker.server.certificates import Certificates
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.serving import BrokerServer

AUTHORITY = Authority()


def written(folder: Path, **how: object) -> TlsSettings:
    cert, key = AUTHORITY.issue(**how).write(folder)  # type: ignore[arg-type]
    return TlsSettings(cert=cert, key=key)


def _nothing_there(folder: Path) -> None:
    (folder / "broker.pem").unlink()


def _no_pem(folder: Path) -> None:
    (folder / "broker.pem").write_text("certificate")


def _no_key(folder: Path) -> None:
    (folder / "broker.key").write_text("key")


def _other_key(folder: Path) -> None:
    (folder / "broker.key").write_bytes(AUTHORITY.issue().key)


def _locked_key(folder: Path) -> None:
    AUTHORITY.issue(passphrase=b"hunter2").write(folder)


def _out_of_date(folder: Path) -> None:
    AUTHORITY.issue(ends=timedelta(days=-1)).write(folder)


def _ed25519(folder: Path) -> None:
    AUTHORITY.issue(key=ed25519.Ed25519PrivateKey.generate()).write(folder)


def _p521(folder: Path) -> None:
    AUTHORITY.issue(key=ec.generate_private_key(ec.SECP521R1())).write(folder)


def _no_authority(folder: Path) -> None:
    (folder / "ca.pem").write_text("")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_nothing_there, "tls.cert: cannot read {}/broker.pem: No such file"),
        (_no_pem, "tls.cert: {}/broker.pem holds no certificate in PEM form"),
        (_no_key, "tls.key: {}/broker.key holds no private key in PEM form"),
        (_other_key, "tls.key: {0}/broker.key is not the key of the certificate in {0}/broker.pem"),
        (_locked_key, "tls.key: {}/broker.key is locked by a passphrase"),
        (_out_of_date, "tls.cert: the certificate in {}/broker.pem has run out on 20"),
        (_ed25519, "tls.key: {}/broker.key is of a kind that gRPC does not serve"),
        (_p521, "tls.key: {}/broker.key is of a kind that gRPC does not serve"),
        (_no_authority, "tls.client_ca: {}/ca.pem holds no certificate in PEM form"),
    ],
)
def test_files_that_are_no_good_are_refused(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    good = written(tmp_path)
    settings = good.model_copy(update={"client_ca": AUTHORITY.write(tmp_path)})
    spoil(tmp_path)
    with pytest.raises(ConfigError) as caught:
        Certificates(settings)
    assert str(caught.value).startswith(said.format(tmp_path))
    assert "hunter2" not in str(caught.value)


async def test_a_broker_with_such_files_does_not_start(tmp_path: Path) -> None:
    cert, _ = AUTHORITY.issue().write(tmp_path)
    _, other = AUTHORITY.issue().write(tmp_path, "other")
    settings = Settings(store="memory:", tls=TlsSettings(cert=cert, key=other))
    with pytest.raises(ConfigError, match=r"other\.key is not the key of the certificate"):
        BrokerServer(settings)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cert": "a"}, "tls.cert: is of no use without tls.key"),
        ({"key": "a"}, "tls.key: is of no use without tls.cert"),
        ({"client_ca": "a"}, "tls.client_ca: a broker that asks for certificates shows its own"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Settings(tls=given)


def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = written(tmp_path)
    Certificates(settings)
    assert caplog.messages == []
    (tmp_path / "broker.key").chmod(0o640)
    Certificates(settings)
    # A key of root's may be lent to a group, as those in Kubernetes' secrets are.
    assert bool(caplog.messages) == (os.getuid() != 0)
    caplog.clear()
    (tmp_path / "broker.key").chmod(0o604)
    Certificates(settings)
    assert caplog.messages == [
        f"tls.key: {tmp_path}/broker.key can be read by others on this machine: "
        f"chmod 600 {tmp_path}/broker.key"
    ]


def test_half_of_a_new_pair_is_told_once_and_the_whole_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificates = Certificates(written(tmp_path))
    before = certificates.expires
    new = AUTHORITY.issue(ends=timedelta(days=80))
    for tail in (b"", b"\n", b"\n\n"):
        (tmp_path / "broker.key").write_bytes(new.key + tail)
        certificates.look()
        certificates.look()
    (told,) = caplog.messages
    assert "is not the key of the certificate" in told
    assert "the certificate that was read before stays in use" in told
    assert certificates.expires == before
    (tmp_path / "broker.pem").write_bytes(new.cert)
    certificates.look()
    assert "new certificate in use" in caplog.messages[-1]
    assert certificates.expires < before
    assert len(caplog.messages) == 2


def test_a_new_certificate_that_has_run_out_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(written(tmp_path))
    before = certificates.expires
    _out_of_date(tmp_path)
    certificates.look()
    assert certificates.expires == before
    assert "has run out on" in caplog.text


@pytest.mark.parametrize(
    ("days", "level", "said"),
    [
        (0.0, None, ""),
        (75.9, None, ""),
        (76.1, "WARNING", "runs out on"),
        (89.9, "WARNING", "runs out on"),
        (90.1, "ERROR", "has run out on"),
        (-303.0, "WARNING", "is the clock of this machine right?"),
    ],
)
def test_the_end_of_a_certificate_is_told_two_weeks_before_and_each_day(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, days: float, level: str | None, said: str
) -> None:
    settings = written(tmp_path, ends=timedelta(days=90))
    now = datetime.now(UTC)
    certificates = Certificates(settings, now=lambda: now)
    now += timedelta(days=days)
    for _ in range(3):
        certificates.remind()
    assert [record.levelname for record in caplog.records] == ([level] if level else [])
    assert said in caplog.text
    if level:
        now += timedelta(days=1)
        certificates.remind()
        assert len(caplog.records) == 2
