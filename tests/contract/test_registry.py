"""From the url of a store to its driver: what is known, and a clear refusal of all else."""

import tomllib
from pathlib import Path

import pytest

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.interface import Durability
from towline_broker.drivers.memory import MemoryDriver
from towline_broker.drivers.registry import (
    BUILT_IN,
    EXTRAS,
    StoreUrl,
    create_driver,
    parse_url,
)


@pytest.mark.parametrize("url", ["memory:", "MEMORY:", "memory:?max_bytes=1000000"])
def test_a_memory_store_is_created(url: str) -> None:
    driver = create_driver(url)
    assert driver.capabilities.name == "memory"
    assert driver.capabilities.durability is Durability.NONE


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redys://localhost", f"known are {', '.join(f'{name}:' for name in sorted(BUILT_IN))}"),
        ("", "not the url of a store"),
        ("jobs.db", "not the url of a store"),
        (":memory:", "not the url of a store"),
        ("memory://here", "has no place"),
        ("memory:?max_byte=1", "known are max_bytes"),
        ("memory:?max_bytes", "?name=value"),
        ("memory:?max_bytes=", "needs one value"),
        ("memory:?max_bytes=1&max_bytes=2", "needs one value"),
        ("memory:?max_bytes=0", "above 0"),
        ("memory:?max_bytes=-1", "above 0"),
        ("memory:?max_bytes=1e9", "above 0"),
        ("memory:?max_bytes=\N{SUPERSCRIPT TWO}", "above 0"),
        ("memory:?max_bytes=" + "9" * 5000, "above 0"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_way_out(url: str, told: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        create_driver(url)
    assert told in str(refused.value)


def test_a_url_is_taken_apart() -> None:
    assert parse_url("FILE:///var/lib/my%20jobs?a=1&b=x%3Dy", options=("a", "b")) == StoreUrl(
        "file", "///var/lib/my jobs", {"a": "1", "b": "x=y"}
    )


def test_a_third_party_adds_a_driver_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "towline_attic-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: towline-attic\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[towline_broker.drivers]\nattic = towline_attic:open_attic\n"
    )
    (tmp_path / "towline_attic.py").write_text(
        "from towline_broker.drivers.memory import open_memory\n"
        "def open_attic(url):\n"
        "    assert url == 'attic://box'\n"
        "    return open_memory('memory:')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(create_driver("attic://box"), MemoryDriver)
    with pytest.raises(StoreRefused, match="known are attic:, "):
        create_driver("cellar://box")


@pytest.mark.parametrize(("package", "extra"), EXTRAS.items())
def test_a_store_whose_client_is_not_installed_says_how_to_install_it(
    package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUILT_IN, "cellar", ("towline_broker.cellar", "open_cellar"))

    def import_module(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.part")

    monkeypatch.setattr("towline_broker.drivers.registry.import_module", import_module)
    with pytest.raises(StoreRefused) as refused:
        create_driver("cellar://user:secret@host")
    assert f"pip install 'towline-broker[{extra}]'" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_another_module_that_is_missing_is_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILT_IN, "cellar", ("towline_broker.cellar", "open_cellar"))
    with pytest.raises(ModuleNotFoundError):
        create_driver("cellar://box")


@pytest.mark.parametrize("extra", sorted(set(EXTRAS.values())))
def test_each_extra_that_is_named_exists(extra: str) -> None:
    project = Path(__file__).parents[2] / "broker" / "pyproject.toml"
    assert extra in tomllib.loads(project.read_text())["project"]["optional-dependencies"]
