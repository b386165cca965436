"""What a broker looks at while it serves is looked at again, whatever goes wrong meanwhile."""

import asyncio
import logging
from pathlib import Path

import pytest

from tests.support.waiting import until
from towline_broker.server.files_in_use import TRY_AGAIN, FilesInUse
from towline_broker.server.looking import look_every


class Disk:
    """A file, the time, and what goes wrong when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_text("old")
        self.now = 0.0
        self.fault: Exception | None = None
        self.told: list[str] = []
        self.files = FilesInUse(
            [path], self.read, (OSError,), lambda error: self.told.append(str(error)), self.time
        )

    def read(self) -> str:
        if self.fault is not None:
            raise self.fault
        return self.path.read_text()

    def time(self) -> float:
        return self.now


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "file")


def test_a_file_that_cannot_be_read_is_read_later_though_it_has_not_changed_since(
    disk: Disk,
) -> None:
    disk.path.write_text("newer")
    disk.fault = OSError("too many open files")
    assert not disk.files.look()
    disk.fault = None
    assert not disk.files.look()  # not at each call
    assert disk.files.content == "old"
    disk.now += TRY_AGAIN
    assert disk.files.look()
    assert disk.files.content == "newer"
    disk.now += TRY_AGAIN
    assert not disk.files.look()


def test_what_is_wrong_with_a_file_is_told_once(disk: Disk) -> None:
    for fault in ("half", "half", "empty", "half"):
        disk.path.write_text(fault + disk.path.read_text())
        disk.fault = OSError(fault)
        for _ in range(3):
            assert not disk.files.look()
            disk.now += TRY_AGAIN
    assert disk.told == ["half", "empty", "half"]
    assert disk.files.content == "old"
    disk.fault = None
    assert disk.files.look()
    disk.path.write_text("half")
    disk.fault = OSError("half")
    assert not disk.files.look()
    assert disk.told == ["half", "empty", "half", "half"]


async def test_a_look_that_fails_is_not_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    faults = [OSError("first"), OSError("first"), KeyError("second"), None, OSError("first"), None]
    left = list(faults)

    async def look() -> None:
        fault = left.pop(0) if left else None
        if fault is not None:
            raise fault

    async def all_are_gone() -> bool:
        return not left

    looking = asyncio.create_task(look_every(0.001, look, "looking at something"))
    await until(all_are_gone, "it goes on")
    assert not looking.done()
    looking.cancel()
    said = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["looking at something failed, and is tried again"] * 3
