"""Settings: which source wins, and how a mistake is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.settings import load_settings
from towline_broker.core.settings import CoreSettings
from towline_broker.domain.time import HOUR, MINUTE, SECOND
from towline_broker.server.configuration.catalogue import all_settings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError
from towline_broker.services.limits import MIB, Limits

pytestmark = pytest.mark.usefixtures("empty_folder")

WriteFile = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFile:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def mistakes(options: dict[str, Any] | None = None, config: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(options or {}, config)
    first, *rest = str(caught.value).split("\n")
    assert first == "wrong settings:" or not rest
    return [line.strip() for line in rest] or [first]


def test_without_any_source_the_defaults_hold() -> None:
    settings = load_settings({})
    assert settings == Settings()
    assert settings.store == "sqlite:///towline.db"
    assert settings.listen == "127.0.0.1:7480"
    assert settings.drain_timeout == 30 * SECOND
    assert settings.limits.to_limits() == Limits()
    assert settings.core.to_core() == CoreSettings()


def test_options_beat_the_environment_beats_dotenv_beats_the_file_beats_defaults(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["batch = 11", "page = 11", "weight = 11", "max_attempts = 11"]
    write(
        "towline-broker.toml",
        'store = "memory:1"\nlisten = "[::1]:1"\n[limits]\n' + "\n".join(lines),
    )
    assert (load_settings({}).store, load_settings({}).limits.batch) == ("memory:1", 11)
    write(
        ".env", "TOWLINE_STORE=memory:2\nTOWLINE_LIMITS__BATCH=12\nTOWLINE_LIMITS__PAGE=12\nOTHER=1"
    )
    assert (load_settings({}).store, load_settings({}).limits.batch) == ("memory:2", 12)
    monkeypatch.setenv("TOWLINE_STORE", "memory:3")
    monkeypatch.setenv("TOWLINE_LIMITS__BATCH", "13")
    settings = load_settings({"store": "memory:4"})
    assert settings.store == "memory:4"
    assert load_settings({}).store == "memory:3"
    limits = settings.limits
    assert (limits.batch, limits.page, limits.weight, limits.retry_delays) == (13, 12, 11, 100)
    assert settings.listen == "[::1]:1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'log_level = "debug"\n[core]\ndefault_lease = "1m"'),
        ("a.yaml", "log_level: debug\ncore:\n  default_lease: 1m\n"),
        ("a.yml", "log_level: debug\ncore: {default_lease: 60}\n"),
        ("a.json", json.dumps({"log_level": "debug", "core": {"default_lease": "60s"}})),
    ],
)
def test_a_file_may_be_toml_yaml_or_json(name: str, text: str, write: WriteFile) -> None:
    settings = load_settings({}, write(name, text))
    assert settings.log_level == "debug"
    assert settings.core.default_lease == MINUTE


def test_the_environment_may_name_the_file(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("towline-broker.toml", 'log_level = "error"')
    monkeypatch.setenv("TOWLINE_CONFIG", str(write("other.toml", 'log_level = "debug"')))
    assert load_settings({}).log_level == "debug"
    assert load_settings({}, write("third.toml", "")).log_level == "info"
    fourth = write("fourth.toml", 'log_level = "warning"')
    write(".env", f"TOWLINE_CONFIG={fourth}")
    assert load_settings({}).log_level == "debug"
    monkeypatch.delenv("TOWLINE_CONFIG")
    assert load_settings({}).log_level == "warning"


def test_every_limit_can_be_set_in_units_that_people_use(write: WriteFile) -> None:
    text = """
    [limits]
    payload_bytes = "2 MiB"
    message_bytes = 8388608
    wait = "1m30s"
    max_lease = "24h"
    min_lease = 0.5
    """
    limits = load_settings({}, write("a.toml", text)).limits.to_limits()
    assert limits.payload_bytes == 2 * MIB
    assert limits.message_bytes == 8 * MIB
    assert limits.wait == 90 * SECOND
    assert limits.max_lease == 24 * HOUR
    assert limits.min_lease == SECOND // 2


def test_there_is_a_setting_for_every_limit_and_every_bound_of_the_core() -> None:
    names = {setting.place[-1] for setting in all_settings()}
    assert set(Limits.__dataclass_fields__) <= names
    assert set(CoreSettings.__dataclass_fields__) <= names


def test_each_mistake_is_told_with_its_place_and_what_was_expected(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        "broker.toml",
        'listen = "7480"\nlisten_on = 1\n'
        '[limits]\nbatch = "many"\nwait = "2h"\n[core]\nmax_waiters = 0\n',
    )
    write(".env", "TOWLINE_LOG_FORMAT=xml\n")
    monkeypatch.setenv("TOWLINE_LOG_LEVEL", "loud")
    monkeypatch.setenv("TOWLINE_LIMITS__PAYLOD_BYTES", "1")
    found = mistakes({"drain_timeout": "soon", "store": " "}, file)
    expected = {
        "listen": ["HOST:PORT", f"file {file}"],
        "listen_on": ["no such setting", f"file {file}"],
        "limits.batch": ["'many'", "a whole number, 1 to 100000", f"file {file}, line 4"],
        "limits.wait": ["'2h'", "0s to 1h", f"file {file}"],
        "core.max_waiters": ["0: expected a whole number, at least 1", f"file {file}, line 7"],
        "log_format": ["'xml'", "console or json", "variable in .env: TOWLINE_LOG_FORMAT"],
        "log_level": ["'loud'", "debug, info, ", "environment variable TOWLINE_LOG_LEVEL"],
        "limits.paylod_bytes": [
            "no such setting",
            "did you mean limits.payload_bytes?",
            "environment variable TOWLINE_LIMITS__PAYLOD_BYTES",
        ],
        "drain_timeout": ["'soon'", "10m", "option --drain-timeout"],
        "store": ["sqlite:///", "option --store"],
    }
    assert {line.split(": ")[0] for line in found} == set(expected)
    for line in found:
        for part in expected[line.split(": ")[0]]:
            assert part in line


def test_a_misspelt_variable_is_refused_and_a_stranger_is_not(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the SDK reads, and what Kubernetes makes up for a service called towline.
    monkeypatch.setenv("TOWLINE_URL", "10.0.0.1:7480")
    monkeypatch.setenv("TOWLINE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("TOWLINE_PORT_7480_TCP", "tcp://10.0.0.1:7480")
    load_settings({})
    monkeypatch.setenv("TOWLINE_STOER", "memory:")
    write(".env", "TOWLINE_LISTN=x")
    assert mistakes() == [
        "variable in .env: TOWLINE_LISTN: no such setting; did you mean TOWLINE_LISTEN?",
        "environment variable TOWLINE_STOER: no such setting; did you mean TOWLINE_STORE?",
    ]


def test_a_variable_that_is_no_json_is_named_and_its_value_is_not(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(".env", """TOWLINE_QUEUES='{"a.*": '""")
    (line,) = mistakes()
    assert line.startswith("queues: expected JSON: ")
    assert line.endswith("(variable in .env: TOWLINE_QUEUES)")
    write(".env", "")
    monkeypatch.setenv("TOWLINE_STORES", '{"fast": "redis://:secret@h"')
    (line,) = mistakes()
    assert line.startswith("stores: expected JSON: ")
    assert line.endswith("(environment variable TOWLINE_STORES)")
    assert "secret" not in line


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[limits]\nmessage_bytes = "1 MiB"', "a job with its payload and result can take"),
        ('[limits]\nmin_lease = "2h"\nmax_lease = "1h"', "min_lease is longer than max_lease"),
        ('[core]\ndefault_lease = "13h"', "core.default_lease is 13h"),
        ("[limits]\npayload_bytes = 0", "limits.payload_bytes"),
        ("[limits]\nunique_key_bytes = 257", "limits.unique_key_bytes"),
        ("[limits]\ncaller_id_bytes = 129", "limits.caller_id_bytes"),
        ('[limits]\npayload_bytes = "1 parsec"', "limits.payload_bytes"),
        ("limits = 3", "limits"),
        ("store = 3", "store"),
        ("insecure = 3", "insecure"),
    ],
)
def test_values_that_do_not_go_together_are_refused(text: str, part: str, write: WriteFile) -> None:
    file = write("a.toml", text)
    (line,) = mistakes({}, file)
    assert part in line
    assert str(file) in line


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("a.toml", "store = ", "cannot be read: Invalid value"),
        ("a.json", "{", "line 1"),
        ("a.yaml", "a: [", "line 1"),
        ("a.yaml", "- a", "expected settings by name"),
        ("a.json", "[]", "expected settings by name"),
        ("a.yaml", "1: 2", "expected settings by name"),
        ("a.ini", "", "ends in .toml, .yaml, .yml or .json"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, text: str, part: str, write: WriteFile
) -> None:
    (line,) = mistakes({}, write(name, text))
    assert name in line
    assert part in line


def test_a_file_that_is_not_there_is_named() -> None:
    (line,) = mistakes({}, Path("nowhere.toml"))
    assert "nowhere.toml: No such file" in line


def test_settings_made_in_code_ignore_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_STORE", "nonsense:")
    assert Settings(store="memory:").store == "memory:"
    assert Settings().store == "sqlite:///towline.db"
