"""The command and a broker that speaks TLS: what it is told by files and the environment, and how
soon it says what does not fit."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.support.broker_process import BrokerProcess
from tests.support.certificates import Authority
from towline.cli import settings
from towline.cli.exits import Exit

AUTHORITY, STRANGER = Authority(), Authority("Another one")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a broker that speaks TLS."""
    cert, key = AUTHORITY.issue().write(tmp_path_factory.mktemp("broker"))
    with BrokerProcess("memory:", "--tls-cert", str(cert), "--tls-key", str(key)) as broker:
        yield broker.address


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without any variable of ours; those that are set are taken back."""
    monkeypatch.chdir(tmp_path)
    for name in ("TOWLINE_URL", "TOWLINE_TOKEN", *settings.PROOFS.values()):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    AUTHORITY.write(tmp_path)
    return tmp_path


def test_url_and_authority_may_stand_in_a_file(
    towline: Command, folder: Path, secured: str
) -> None:
    (folder / "pyproject.toml").write_text('[tool.towline]\nca = "nowhere.pem"\n')
    (folder / "towline.toml").write_text(f'url = "grpcs://{secured}"\nca = "ca.pem"\n')
    done = towline("stats", "--json")
    assert (done.code, done.err) == (0, "")


def test_variables_come_before_files(towline: Command, folder: Path, secured: str) -> None:
    STRANGER.write(folder, "stranger")
    (folder / "towline.toml").write_text('ca = "stranger.pem"\n')
    (folder / ".env").write_text("TOWLINE_CA=ca.pem\n")
    assert towline("stats", "--url", secured).code == 0


def test_a_token_of_the_environment_comes_before_a_file_of_the_settings(
    towline: Command, folder: Path, secured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "towline.toml").write_text('ca = "ca.pem"\ntoken_file = "token"\n')
    monkeypatch.setenv("TOWLINE_TOKEN", "mine")
    assert towline("stats", "--url", secured).code == 0
    monkeypatch.delenv("TOWLINE_TOKEN")
    done = towline("stats", "--url", secured)
    assert done.code == Exit.USAGE
    assert "token: cannot read token: No such file" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('token = "secret"', "there is no setting 'token'; did you mean token_file?"),
        ("ca = 5", "towline.toml: ca: expected a string, got 5"),
    ],
)
def test_a_wrong_setting_is_told(towline: Command, folder: Path, text: str, said: str) -> None:
    (folder / "towline.toml").write_text(text)
    done = towline("stats")
    assert done.code == Exit.USAGE
    assert said in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize(
    ("ca", "scheme", "said"),
    [
        ("stranger.pem", "grpcs://", "is not vouched for by an authority that is trusted here"),
        ("", "", "hangs up at once: if it speaks TLS, write grpcs://"),
    ],
)
def test_what_does_not_fit_is_told_at_once(
    towline: Command, folder: Path, secured: str, ca: str, scheme: str, said: str
) -> None:
    STRANGER.write(folder, "stranger")
    if ca:
        os.environ["TOWLINE_CA"] = ca
    # gRPC would repeat calls for longer than this.
    done = towline("stats", "--url", scheme + secured, "--timeout", "2s")
    assert done.code == Exit.UNREACHABLE
    assert said in done.err
