"""towline-broker config: what it says of settings is what serve would do with them."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner, Result

from tests.configuration.page import PAGE
from tests.support.settings import load_settings
from towline_broker.cli import app
from towline_broker.server.configuration.catalogue import all_settings
from towline_broker.server.configuration.settings import Settings

Config = Callable[..., Result]

FILE = """
store = "postgresql://towline:secret@db/jobs"
[stores]
"on" = "redis://:secret@cache"
[limits]
payload_bytes = "2MiB"
[queues."reports.*"]
store = "on"
lease = "1m1ms"
dead_letter_retention = "forever"
[queues.yes.retry]
delays = [1, "1h30m"]
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def config() -> Config:
    return lambda *arguments: CliRunner().invoke(app, ["config", *arguments])


def write(text: str = FILE, name: str = "towline-broker.toml") -> Path:
    path = Path(name)
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def warnings(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return result.stderr.splitlines()


def test_right_settings_are_ok_and_their_sources_are_told(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config("check").output == "ok\n  all are defaults\n"
    write()
    write("TOWLINE_DRAIN_TIMEOUT=5s", ".env")
    monkeypatch.setenv("TOWLINE_LIMITS__BATCH", "5")
    result = config("check", "--listen", "127.0.0.1:0", "--store", "fast=memory:")
    assert warnings(result) == [
        "warning: stores.fast: no queue is given to this store; see [queues]"
    ]
    told = result.stdout.splitlines()
    assert told[0] == "ok"
    assert set(told[1:]) == {
        '  file towline-broker.toml: store, stores.on, queues."reports.*".store, '
        'queues."reports.*".lease, queues."reports.*".dead_letter_retention, '
        "queues.yes.retry.delays, limits.payload_bytes",
        "  variable in .env: drain_timeout",
        "  environment variable: limits.batch",
        "  option: stores.fast, listen",
        "  all else: defaults",
    }


def test_what_is_found_can_be_had_as_json(config: Config) -> None:
    write('listen = "0.0.0.0:1"\ninsecure = true\n')
    told = json.loads(config("check", "--json").stdout)
    assert told["ok"] is True
    assert told["sources"] == {"file towline-broker.toml": ["listen", "insecure"]}
    assert told["mistakes"] == []
    assert told["warnings"] == [
        "listen: insecure: anyone who reaches 0.0.0.0:1 can read and change jobs"
    ]
    write("a = 1\nb = 2")
    result = config("check", "--json")
    assert result.exit_code == 78
    assert [line.split(":")[0] for line in json.loads(result.stdout)["mistakes"]] == ["a", "b"]


def test_what_is_surely_not_meant_is_warned_of(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("", "towline-broker.yaml")
    assert warnings(config("check")) == [
        "warning: file towline-broker.yaml: is not read unless it is named: "
        "--config towline-broker.yaml"
    ]
    write("TOWLINE_LOG_LEVEL=debug\nTOWLINE_PROCESSES=1\n", ".env")
    monkeypatch.setenv("TOWLINE_LOG_LEVEL", "error")
    monkeypatch.setenv("TOWLINE_PROCESSES", "1")
    more = "[queues.a]\ndead_letters = false\ndead_letter_retention = 5\n[guards]\nwaiters = 5\n"
    write(FILE + more).chmod(0o644)
    assert warnings(config("check")) == [
        "warning: queues.a.dead_letter_retention: has no effect, for dead_letters is false",
        "warning: guards: nothing of them but answer_bytes has an effect, for without auth nobody "
        "is told from others",
        "warning: log_level: variable in .env: TOWLINE_LOG_LEVEL does not count: environment "
        "variable TOWLINE_LOG_LEVEL does",
        "warning: file towline-broker.toml: holds a password, and everybody on this machine can "
        "read it; chmod o-r towline-broker.toml",
    ]


def test_a_password_that_was_typed_is_warned_of(config: Config) -> None:
    assert warnings(config("check", "--store", "redis://user:hunter2@cache")) == [
        "warning: store: everybody on this machine can see a password that was typed; put the url "
        "into TOWLINE_STORE or a file (--config)"
    ]


def test_no_store_is_opened_and_no_port_taken(config: Config, tmp_path: Path) -> None:
    assert config("check", "--store", "sqlite:///jobs.db").exit_code == 0
    assert config("check", "--store", "file:///jobs").exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "read"),
    [("toml", tomllib.loads), ("yaml", yaml.safe_load), ("json", json.loads)],
)
def test_what_is_shown_is_what_is_in_effect_without_passwords(
    form: str, read: Callable[[str], Any], config: Config
) -> None:
    file = write()
    result = config("show", "--format", form)
    assert "secret" not in result.output
    shown: Mapping[str, Any] = read(result.stdout)
    if form == "json":
        assert shown["origins"]["limits.payload_bytes"] == f"file {file}, line 6"
        assert shown["origins"]["limits.batch"] == "default"
        shown = shown["settings"]
    else:
        assert f"# file {file}, line 6" in result.stdout
    assert shown["stores"] == {"on": "redis://:***@cache"}
    assert shown["queues"]["reports.*"]["lease"] == "60001ms"
    again = Settings(**shown)
    wanted = load_settings({})
    assert (again.queues, again.limits, again.core) == (wanted.queues, wanted.limits, wanted.core)
    assert again.model_copy(update={"store": wanted.store, "stores": wanted.stores}) == wanted


def test_the_password_of_an_identity_provider_is_not_shown(config: Config) -> None:
    url = "https://broker:hunter2@login.example.com/keys"
    write(f'[auth.jwt]\nissuer = "i"\naudience = "a"\njwks_url = "{url}"\n')
    result = config("show")
    assert "broker:***@login.example.com/keys" in result.stdout
    assert "hunter2" not in result.output


def test_the_page_shows_what_is_shown(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_LOG_LEVEL", "debug")
    text = PAGE.read_text().partition("$ TOWLINE_LOG_LEVEL=debug towline-broker ")[2]
    command, *lines = text.partition("```")[0].splitlines()
    shown = config(*command.split()[1:]).stdout.splitlines()
    assert [line for line in lines if line != "..."] == [line for line in shown if line in lines]


def test_a_wrong_setting_shows_nothing_but_the_mistake(config: Config) -> None:
    result = config("show", "--processes", "0")
    assert result.exit_code == 78
    assert result.stdout == ""
    assert "processes: 0: expected a whole number, 1 to 256 (option --processes)" in result.stderr


def test_the_schema_takes_what_the_broker_takes(config: Config) -> None:
    schema = json.loads(config("schema").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    right = tomllib.loads(FILE)
    shown = json.loads(config("show", "--format", "json").stdout)["settings"]
    for settings in (
        right,
        shown,
        {"$schema": "x"},
        {"drain_timeout": 5},
        {"limits": {"batch": 5}},
    ):
        assert list(validator.iter_errors(settings)) == []
    for wrong in (
        {"drain_timeout": "soon"},
        {"drain_timeout": 3601},
        {"limits": {"payload_bytes": "1 lot"}},
        {"limits": {"batch": 0}},
        {"listne": "x"},
        {"log_level": "warn"},
        {"queues": {"a": {"stor": "b"}}},
        {"stores": "x"},
    ):
        assert list(validator.iter_errors(wrong)), wrong


def test_the_schema_tells_editors_of_each_setting_what_it_is_for_and_its_default(
    config: Config,
) -> None:
    schema = json.loads(config("schema").stdout)
    assert schema["properties"]["drain_timeout"]["default"] == "30s"
    assert schema["properties"]["drain_timeout"]["x-takes-effect"] == "on reload"
    limits = schema["$defs"]["LimitSettings"]["properties"]
    assert limits["payload_bytes"]["default"] == "1MiB"
    assert limits["wait"]["x-takes-effect"] == "at the next start"
    described = str(schema)
    for setting in all_settings():
        assert " ".join(setting.description.split())[:40] in described.replace("\\'", "'")


def test_the_commands_take_the_options_of_serve() -> None:
    command: Any = get_command(app)
    serve = {each.name for each in command.commands["serve"].params} - {"ready_file"}
    for name in ("check", "show"):
        taken = {each.name for each in command.commands["config"].commands[name].params}
        assert serve <= taken
