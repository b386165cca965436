"""Settings of several stores, of queues, and of several processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer import BadParameter

from tests.support.settings import load_settings
from towline_broker.commands.settings_options import _stores
from towline_broker.core.routing import Routes
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError

pytestmark = pytest.mark.usefixtures("empty_folder")

FILE = """
store = "sqlite:///main.db"
processes = 2

[stores]
pg = "postgresql://queue:secret@db/jobs"
Fast = "redis://cache"

[queues.emails]
store = "pg"

[queues."reports.*"]
store = "Fast"

[queues.audit]
"""


def mistakes(load: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load()
    _, *rest = str(caught.value).split("\n")
    return [line.strip() for line in rest]


def test_stores_have_names_and_queues_are_given_to_them(load: Callable[[str], Settings]) -> None:
    settings = load(FILE)
    assert settings.all_stores == {
        "default": "sqlite:///main.db",
        "pg": "postgresql://queue:secret@db/jobs",
        "Fast": "redis://cache",
    }
    assert settings.to_routes() == Routes(exact={"emails": "pg"}, patterns=(("reports.*", "Fast"),))
    assert settings.processes == 2


def test_without_any_there_is_the_default_store_and_one_process() -> None:
    settings = load_settings({})
    assert settings.all_stores == {"default": "sqlite:///towline.db"}
    assert settings.to_routes() == Routes()
    assert settings.processes == 1


def test_the_environment_can_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_STORES__PG", "postgresql://db/jobs?option=[1]")
    monkeypatch.setenv("TOWLINE_STORES", json.dumps({"Fast": "redis://cache"}))
    monkeypatch.setenv("TOWLINE_QUEUES__EMAILS__STORE", "pg")
    monkeypatch.setenv("TOWLINE_QUEUES", json.dumps({"reports.*": {"store": "Fast"}}))
    monkeypatch.setenv("TOWLINE_PROCESSES", "3")
    settings = load_settings({})
    assert settings.stores == {"pg": "postgresql://db/jobs?option=[1]", "Fast": "redis://cache"}
    assert settings.to_routes() == Routes(exact={"emails": "pg"}, patterns=(("reports.*", "Fast"),))
    assert settings.processes == 3


def test_options_name_stores_and_beat_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(FILE)
    options = _stores(["memory:?max_bytes=1", "pg=postgresql://u=v@other/jobs", "new=memory:"])
    settings = load_settings(options, file)
    assert settings.all_stores == {
        "default": "memory:?max_bytes=1",
        "pg": "postgresql://u=v@other/jobs",
        "Fast": "redis://cache",
        "new": "memory:",
    }


def test_options_of_one_name_are_refused() -> None:
    for twice in (["memory:", "sqlite:///x.db"], ["memory:", "default=memory:"], ["a=b:", "a=c:"]):
        with pytest.raises(BadParameter, match="two urls for store"):
            _stores(twice)


def test_each_mistake_is_told_with_its_place(load: Callable[[str], Settings]) -> None:
    text = """
    processes = 0
    [stores]
    default = "memory:"
    "a:b" = "memory:"
    blank = " "
    listed = ["postgresql://u:secret@h"]
    [queues."emails.*"]
    stor = "pg"
    [queues."no spaces"]
    [queues]
    flat = "pg"
    """
    found = mistakes(lambda: load(text))
    expected = {
        "processes": "0: expected a whole number, 1 to 256",
        "stores.default": "the name of the store that 'store' sets",
        'stores."a:b"': "no name of a store",
        "stores.blank": "'sqlite:///towline.db'",
        "stores.listed": "expected the url of a store",
        'queues."emails.*".stor': 'did you mean queues."emails.*".store?',
        'queues."no spaces"': "no queue's name",
        "queues.flat": "expected a section: [queues.flat]",
    }
    assert {line.split(": ")[0] for line in found} == set(expected)
    for line in found:
        assert expected[line.split(": ")[0]] in line
        assert "(file " in line
        assert "secret" not in line


def test_what_does_not_go_together_is_told_with_its_place(
    load: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    store = "postgresql://u:secret@h/d"
    [stores]
    pg1 = "postgresql://u:secret@h/d"
    ram1 = "memory:"
    ram2 = "memory:"
    [queues.emails]
    store = "pg"
    [queues."a*x*c"]
    [queues."a*y*c"]
    """
    monkeypatch.setenv("TOWLINE_QUEUES__REPORTS__STORE", "elsewhere")
    found = mistakes(lambda: load(text))
    places = {line.split(": ")[0]: line for line in found}
    assert set(places) == {
        "stores.pg1",
        "queues.emails.store",
        "queues.reports.store",
        'queues."a*y*c"',
    }
    assert "the url of store 'default' too" in places["stores.pg1"]
    assert "no store is called 'pg'; did you mean 'pg1'?" in places["queues.emails.store"]
    assert "there is default, pg1, ram1, ram2" in places["queues.reports.store"]
    assert "variable TOWLINE_QUEUES__REPORTS__STORE" in places["queues.reports.store"]
    assert "'a*x*c'" in places['queues."a*y*c"']
    assert "secret" not in "".join(found)


@pytest.mark.parametrize("section", ["store", "stores", "stores.a"])
def test_a_url_of_the_wrong_kind_is_not_told(section: str, tmp_path: Path) -> None:
    value: Any = ["postgresql://u:secret@h/d"]
    for part in reversed(section.split(".")):
        value = {part: value}
    file = tmp_path / "broker.json"
    file.write_text(json.dumps(value))
    (line,) = mistakes(lambda: load_settings({}, file))
    assert line.startswith(f"{section}: ")
    assert "secret" not in line


def test_settings_reach_another_process_as_they_are(load: Callable[[str], Settings]) -> None:
    text = FILE + '[core]\ndefault_lease = "1h1ms"\n[limits]\nwait = 0.25\npayload_bytes = 17\n'
    settings = load(text)
    assert Settings.model_validate_json(settings.model_dump_json()) == settings
    assert Settings.model_validate_json(Settings().model_dump_json()) == Settings()
