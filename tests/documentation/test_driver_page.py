"""docs/writing-a-driver.md, and what CONTRIBUTING.md has of it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.documentation.takers import taken_by
from tests.support.pages import Block, blocks
from tests.support.third_party import install
from towline_broker.drivers.registry import create_driver

ENTRIES = [block for block in taken_by(__file__) if block.language == "toml"]
#: A store of somebody's: here, the file store by another name.
STORE = """
from towline_broker.drivers.registry import create_driver

def open_store(url):
    return create_driver("file:" + url.partition(":")[2])
"""


@pytest.mark.parametrize("block", ENTRIES, ids=str)
def test_an_entry_point_is_one_that_the_broker_looks_for(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tomllib.loads(block.text)["project"]["entry-points"]
    [(scheme, target)] = groups.pop("towline_broker.drivers").items()
    assert groups == {}
    assert ":" in target
    install(tmp_path, scheme, STORE)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    assert create_driver(f"{scheme}:///{tmp_path}").capabilities.durability


def test_the_suite_that_it_shows_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "mystore", STORE)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    shown: dict[str, Any] = {"__name__": "shown"}
    (program,) = blocks("docs/writing-a-driver.md", "python")
    exec(compile(program, "writing-a-driver.md", "exec"), shown)
    assert shown["MyHarness"](tmp_path / "store").driver().capabilities.durability
    tests = [name for name in dir(shown["TestMyStore"]) if name.startswith("test_")]
    assert len(tests) > 100
