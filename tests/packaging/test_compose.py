"""deploy/compose: each file alone and with those that it goes with."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.packaging.dockerfile import only, stages
from tests.support.settings import load_settings
from towline_broker.domain.time import to_seconds
from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
FILES = sorted(FOLDER.glob("compose*.yaml"))
IMAGE = stages(ROOT / "deploy" / "container" / "Dockerfile")[-1]


class Loader(yaml.SafeLoader):
    """Compose's own tags say how files are laid over each other; they are left out."""


def _sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


Loader.add_constructor("!override", _sequence)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load(path.read_text(), Loader)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder, with the secrets that the script makes."""
    folder = tmp_path_factory.mktemp("deploy") / "compose"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("secrets"))
    subprocess.run([folder / "make-secrets"], check=True, capture_output=True)
    return folder


def test_each_file_is_by_the_schema_of_compose(tmp_path: Path) -> None:
    documents: list[Path] = []
    for path in FILES:
        documents.append(tmp_path / f"{path.stem}.json")
        documents[-1].write_text(json.dumps(read(path)))
    checker = Path(sys.executable).parent / "check-jsonschema"
    command: list[str | Path] = [checker, "--builtin-schema", "vendor.compose-spec", *documents]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_service_ends_in_time_comes_back_is_bounded_and_gets_no_privileges() -> None:
    services = {name: each for path in FILES for name, each in read(path)["services"].items()}
    services["broker"] = read(FOLDER / "compose.yaml")["services"]["broker"]
    assert set(services) == {"broker", "postgresql", "redis"}
    defaults = Settings()
    for service in services.values():
        assert service["restart"] == "unless-stopped"
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}
        assert service["security_opt"] == ["no-new-privileges:true"]
        draining = to_seconds(defaults.drain_delay + defaults.drain_timeout)
        assert int(service["stop_grace_period"].removesuffix("s")) > draining
    assert services["broker"]["read_only"] is True
    assert services["broker"]["cap_drop"] == ["ALL"]
    assert services["broker"]["volumes"] == [f"store:{only(IMAGE, 'VOLUME').text}"]


def test_others_than_this_machine_reach_the_broker_only_with_tls_and_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (published,) = read(FOLDER / "compose.yaml")["services"]["broker"]["ports"]
    assert published.startswith("127.0.0.1:")
    secure = read(FOLDER / "compose.tls.yaml")["services"]["broker"]
    for name, value in secure["environment"].items():
        monkeypatch.setenv(name, value)
    settings = load_settings({})
    assert not settings.insecure
    assert settings.tls.enabled
    assert settings.auth.enabled
    assert set(secure["secrets"]) == {
        Path(value).name for value in secure["environment"].values() if value.startswith("/")
    }


@pytest.mark.parametrize("store", ["postgresql", "redis"])
def test_the_broker_waits_for_its_store_and_knows_it_by_a_secret(store: str, made: Path) -> None:
    document = read(made / f"compose.{store}.yaml")
    broker = document["services"]["broker"]
    assert broker["depends_on"] == {store: {"condition": "service_healthy"}}
    assert "healthcheck" in document["services"][store]
    (secret,) = broker["secrets"]
    assert broker["environment"] == {"TOWLINE_CONFIG": f"/run/secrets/{secret['target']}"}
    file = made / document["secrets"][secret["source"]]["file"]
    settings = load_settings({}, file)
    password = (made / "secrets" / f"{store}-password").read_text()
    assert len(password) == 48
    assert password in settings.store
    assert f"@{store}:" in shown_url(settings.store)
    assert password not in (made / f"compose.{store}.yaml").read_text()
    for each in document["secrets"].values():
        assert (made / each["file"]).is_file()


def test_secrets_are_made_once_behind_a_closed_door_and_never_committed(made: Path) -> None:
    folder = made / "secrets"
    before = {path.name: path.read_text() for path in folder.iterdir()}
    again = subprocess.run([made / "make-secrets"], check=True, capture_output=True, text=True)
    assert again.stdout == ""
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "secrets/" in (FOLDER / ".gitignore").read_text().split()


def test_redis_keeps_what_it_acknowledges(made: Path) -> None:
    lines = (made / "secrets" / "redis.conf").read_text().splitlines()
    kept = dict(line.split(" ", 1) for line in lines)
    del kept["requirepass"]
    assert kept == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
    }
