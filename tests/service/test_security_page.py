"""What docs/security.md says of transport is done here, word by word: certificates are made, a
broker is started with them, a program and buf reach it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.broker_process import BrokerProcess
from tests.support.pages import blocks
from towline_broker.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PAGE = PAGE.partition("## Transport\n")[2].partition("\n## ")[0]


def block(language: str) -> str:
    return next(text for text in blocks("docs/security.md", language) if text in PAGE)


def command(program: str) -> str:
    return next(text for text in blocks("docs/security.md", "sh") if text.startswith(program))


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    folder = tmp_path_factory.mktemp("trial")
    run(["sh", "-ec", command("openssl")], folder)
    (folder / "broker.key").chmod(0o600)
    tokens = folder / "tokens.json"
    create = f"towline-broker token create --name operator --admin --tokens {tokens}"
    (folder / "token").write_text(run(["sh", "-ec", create], folder))
    (folder / "protos").symlink_to(ROOT / "protos")
    (folder / "towline-broker.toml").write_text(f'[auth]\ntokens = "{tokens}"\n')
    files = ("--tls-cert", "broker.pem", "--tls-key", "broker.key")
    with BrokerProcess("memory:", *files, address="0.0.0.0:0", folder=folder) as running:
        yield running


def test_the_program_reaches_the_broker(broker: BrokerProcess) -> None:
    port = broker.address.rpartition(":")[2]
    program = block("python").replace("broker.internal:7480", f"127.0.0.1:{port}")
    assert run([sys.executable, "-c", program], broker.folder) == "0\n"


def test_buf_reaches_the_broker(broker: BrokerProcess) -> None:
    port = broker.address.rpartition(":")[2]
    answer = run(["sh", "-ec", command("buf").replace(":7480", f":{port}")], broker.folder)
    assert '"driver": "memory"' in answer


def test_variables_and_settings_that_are_named_exist() -> None:
    help_of_serve = CliRunner().invoke(app, ["serve", "--help"]).output
    for option in set(re.findall(r"--tls-[a-z-]+|--listen|--insecure", PAGE)):
        assert option in help_of_serve
    sources = "".join(
        (ROOT / "client/src/towline" / name).read_text()
        for name in ("credentials.py", "bearer.py", "channel.py")
    )
    for variable in set(re.findall(r"TOWLINE_(?!URL)[A-Z_]+", PAGE)):
        assert f'"{variable}"' in sources
