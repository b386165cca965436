"""docs/configuration.md says what the broker says, and no mistake passes."""

import json
from itertools import chain
from pathlib import Path

import pytest

from tests.configuration.mistakes import MISTAKES, Mistake
from tests.configuration.page import PAGE, page, said_of
from tests.support.pages import blocks
from tests.support.settings import load_settings
from towline_broker.server.configuration.settings import Settings

ALL = list(chain.from_iterable(MISTAKES.values()))


def test_the_page_has_every_setting_and_what_is_said_of_every_mistake() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make settings-docs"


def named(mistake: Mistake) -> str:
    return " ".join(mistake.source)


@pytest.mark.parametrize("mistake", ALL, ids=named)
def test_a_mistake_is_refused_with_its_place_and_without_what_is_secret(mistake: Mistake) -> None:
    said = said_of(mistake)
    wrong_use = bool(mistake.options) and said.lines[0].startswith("Error: ")
    assert said.code == (2 if wrong_use else 78)
    assert "secret" not in "".join(said.lines)
    places = [mistake.name] if mistake.file is not None else []
    places += [*mistake.variables, *(each for each in mistake.options if each.startswith("--"))]
    places += [".env"] if mistake.dotenv else []
    for line in said.lines:
        assert any(place in line for place in places) or mistake.variables or mistake.options, line


def test_there_are_many_mistakes() -> None:
    assert len(ALL) >= 40


def test_the_files_that_are_shown_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[Settings] = []
    for language, ending in (("toml", "toml"), ("yaml", "yml"), ("json", "json")):
        (text,) = blocks("docs/configuration.md", language)
        file = tmp_path / f"a.{ending}"
        file.write_text(text)
        shown.append(load_settings({}, file))
    assert shown[0] == shown[1] == shown[2] != Settings()


def test_a_file_of_json_may_name_its_schema(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"$schema": "./towline-broker.schema.json", "processes": 2}))
    assert load_settings({}, file).processes == 2
