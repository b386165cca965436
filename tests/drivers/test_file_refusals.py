"""A place that this broker must not use is refused, and nothing of it is touched."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.drivers.file_support import new_driver, opened, push
from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file import open_file, segments
from towline_broker.drivers.file.store import LOCK
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.factories import START, new_job
from towline_broker.testing.store import Heard

#: Opens a store, says so, and holds it until its standard input is closed.
HOLDER = """
import asyncio, sys
from towline_broker.drivers.file.store import LOCK
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.store import Heard

async def main():
    driver = create_driver(sys.argv[1])
    await driver.open(1, Heard())
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await driver.close()

asyncio.run(main())
"""


def everything_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """But for the lock, which was tried, and spare files, which the owner may be making."""
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.iterdir()
        if file.is_file() and file.name != LOCK and not file.name.startswith("spare-")
    }


async def refusal(directory: Path) -> str:
    """Why the store is refused; fails if it is not, or if anything in the directory changes."""
    before = everything_in(directory)
    with pytest.raises(StoreRefused) as refused:
        await new_driver(directory).open(START, Heard())
    assert everything_in(directory) == before
    return str(refused.value)


@contextmanager
def held_by_another_process(directory: Path) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"file:///{directory}?segment_bytes=65536"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "open\n"
        yield holder.pid
        holder.stdin.close()
        assert holder.wait(timeout=30) == 0


async def test_a_store_of_another_process_is_refused_and_named(tmp_path: Path) -> None:
    directory = tmp_path / "store"
    with held_by_another_process(directory) as pid:
        assert await refusal(directory) == (
            f"{directory} is in use by another broker (process {pid}); stop that one, or give this "
            "broker a store of its own"
        )
    async with opened(directory) as driver:
        await push(driver, new_job())


async def test_a_store_is_opened_once_in_a_process_too(tmp_path: Path) -> None:
    async with opened(tmp_path / "store"):
        assert "in use by another broker" in await refusal(tmp_path / "store")


async def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    tmp_path.joinpath("diary.txt").write_text("Dear diary")
    assert "holds no journal, but 'diary.txt'; name an empty directory" in await refusal(tmp_path)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=f"there is no directory {tmp_path}/no; create it"):
        await new_driver(tmp_path / "no" / "store").open(START, Heard())


async def test_a_file_is_no_directory(tmp_path: Path) -> None:
    tmp_path.joinpath("store").touch()
    with pytest.raises(StoreRefused, match="is not a directory; name another place"):
        await new_driver(tmp_path / "store").open(START, Heard())


async def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "store"
    with monkeypatch.context() as later_release:
        later_release.setattr(segments, "VERSION", 2)
        async with opened(directory):
            pass
    assert "has the newer format 2, and this broker knows 1; use the release" in await refusal(
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
