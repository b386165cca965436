"""deploy/container: the Dockerfile, as far as it can be tried where no image can be built."""

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from tests.packaging import confined
from tests.packaging.dockerfile import Instruction, only, stages
from tests.support.broker_process import BrokerProcess, failed_start
from tests.support.servers.ports import free_port
from towline import Client
from towline_broker.cli import app

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "container" / "Dockerfile"
BEFORE, BUILD, FINAL = stages(FILE)
PROJECT = tomllib.loads((ROOT / "broker/pyproject.toml").read_text())["project"]


def test_hadolint_finds_nothing() -> None:
    command = (Path(sys.executable).parent / "hadolint", FILE)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_it_names_the_version_and_a_python_that_towline_admits() -> None:
    versions = [each.values["VERSION"] for each in FINAL if each.name == "ARG"]
    assert versions == [PROJECT["version"]]
    tag = only(BEFORE, "ARG").values["PYTHON"].partition(":")[2]
    assert SpecifierSet(PROJECT["requires-python"]).contains(tag.partition("-")[0])


def test_compose_and_kubernetes_take_the_image_of_that_version() -> None:
    files = (ROOT / "deploy").rglob("*.yaml")
    images = {
        image
        for path in files
        for image in re.findall(r"image: (towline-broker\S*)", path.read_text())
    }
    assert images == {f"towline-broker:{PROJECT['version']}"}


def test_what_it_copies_is_there_and_nothing_else_is_sent_to_the_builder() -> None:
    ignored = FILE.with_name("Dockerfile.dockerignore").read_text().split()
    admitted = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert ignored[0] == "*"
    copied = {
        word
        for each in BUILD
        if each.name == "COPY"
        for word in each.words[:-1]
        if not word.startswith("--")
    }
    assert copied == admitted
    assert all((ROOT / name).exists() for name in copied)
    refused = [line for line in ignored[1:] if not line.startswith("!")]
    tracked = subprocess.run(
        ["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in tracked.stdout.splitlines():
        assert not any(
            fnmatch.fnmatch(part, rule[3:]) for part in name.split("/") for rule in refused
        )


def test_it_is_a_user_by_number_that_owns_the_volume_and_nothing_else() -> None:
    user = only(FINAL, "USER").text
    uid, _, gid = user.partition(":")
    assert int(uid) > 999
    volume = only(FINAL, "VOLUME").text
    (made,) = [each.text for each in FINAL if each.name == "RUN"]
    assert made == f"install -d -o {uid} -g {gid} -m 0750 {volume}"
    assert only(FINAL, "WORKDIR").text == volume


def environment(stage: list[Instruction]) -> dict[str, str]:
    values = only(stage, "ENV").values
    del values["PATH"]  # of the image
    return values


def test_its_command_refuses_to_serve_everybody_without_being_told(tmp_path: Path) -> None:
    code, said = failed_start(["--http", "off"], tmp_path, environment(FINAL))
    assert code == 78
    assert "neither TLS nor identities" in said


def test_its_command_serves_with_nothing_to_write_but_the_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    http = f"127.0.0.1:{free_port()}"
    told = environment(FINAL) | {"TOWLINE_INSECURE": "true", "TOWLINE_HTTP__LISTEN": http}
    store = "sqlite:///towline.db"  # the default, in the working directory
    assert only(FINAL, "ENTRYPOINT").words == ["towline-broker"]
    assert only(FINAL, "CMD").words == ["serve"]
    with BrokerProcess(
        store, folder=volume, environment=told, run_by=confined.run_by(volume)
    ) as broker:
        with Client(broker.address) as client:
            client.dispatch("X", {})
        health = only(FINAL, "HEALTHCHECK").text.partition(" CMD ")[2]
        program, *arguments = Instruction("CMD", health).words
        assert program == "towline-broker"
        done = CliRunner().invoke(app, arguments, env=told)
        assert (done.exit_code, done.stdout) == (0, f"http://{http}/readyz: ready\n")
        assert (volume / "towline.db").exists()
        assert broker.stop() == 0
