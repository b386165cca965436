"""A place that this broker must not use is refused, and nothing of it is touched."""

from pathlib import Path

import pytest

from tests.drivers.file_support import new_driver, opened
from tests.support import refusals
from tests.support.stores import push
from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file import open_file, segments
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.heard import Heard


async def refusal(directory: Path) -> str:
    return await refusals.refusal(f"file:///{directory}", directory)


async def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("diary.txt").write_text("Dear diary")
    assert "holds no journal, but 'diary.txt'; name an empty directory" in await refusal(tmp_path)


async def test_a_file_is_no_directory(tmp_path: Path) -> None:
    tmp_path.joinpath("store").touch()
    with pytest.raises(StoreRefused, match="is not a directory; name another place"):
        await new_driver(tmp_path / "store").open(START, Heard())


async def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "store"
    with monkeypatch.context() as later_release:
        later_release.setattr(segments, "VERSION", 3)
        async with opened(directory):
            pass
    assert "has the newer format 3, and this broker knows 2; use the release" in await refusal(
        directory
    )


async def test_a_store_left_half_made_is_made_anew(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    directory.mkdir()
    directory.joinpath("spare-0000000001.log").write_bytes(b"the machine stopped here")
    async with opened(directory) as driver:
        await push(driver, new_job())


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:jobs", "is no place for a file store; write file:///relative/directory"),
        ("file://jobs", "is no place for a file store; write file:///relative/directory"),
        ("file:///", "names no directory"),
        ("file:///a?journal=off", "'journal' is no option of this store"),
        ("file:///a?min_free_bytes=64MB", "'64MB', not a number of bytes"),
        ("file:///a?segment_bytes=1000", "segment_bytes is less than 65536"),
        ("file:///a?max_bytes=0", "max_bytes must be above 0"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, why: str) -> None:
    with pytest.raises(StoreRefused, match=why):
        open_file(url)


def test_the_registry_knows_the_driver() -> None:
    assert create_driver("file:///jobs").capabilities.name == "file"
