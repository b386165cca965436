"""Stores as a kill or a close leaves them, to be damaged; and what is read of them then."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

from tests.faults.disks.rounds import Rounds
from tests.support.waiting import until
from towline_broker.domain.errors import StoreError
from towline_broker.drivers.file.driver import FileDriver, open_file
from towline_broker.drivers.file.machine import ThisMachine
from towline_broker.drivers.file.reading import Reader
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.sql.sqlite import file, mark
from towline_broker.drivers.sql.sqlite.driver import open_sqlite
from towline_broker.testing.heard import Heard

#: Small jobs, so that there is not too much to damage.
PAYLOAD = 40

Files = dict[str, bytes]


def journal(seed: int, folder: Path, rounds: int = 40) -> tuple[Rounds, Files]:
    """What a killed broker leaves of a file store, with several short segments, the oldest of which
    have been given up."""

    async def fill() -> Files:
        driver = open_file(f"file:///{folder}?segment_bytes=65536&min_free_bytes=0")
        await driver.open(player.now, Heard())
        for number in range(rounds):
            if number % 4 == 3:
                _begin_a_segment(driver)
            await _play(player, driver)
        await until(lambda: _has_given_up(driver), "the oldest segment is given up")
        files = {path.name: path.read_bytes() for path in _kept(folder)}
        await driver.close()
        return files

    player = Rounds(seed, PAYLOAD)
    files = asyncio.run(fill())
    return player, files


def _begin_a_segment(driver: FileDriver) -> None:
    """As if the one before were full."""
    assert driver._opened is not None
    driver._opened.journal.room._left = 0


async def _has_given_up(driver: FileDriver) -> bool:
    assert driver._opened is not None
    return driver._opened.compaction.given_up > 0 and not driver._opened.compaction.wanted


def _kept(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("journal-*.log"))
    yield folder / "acknowledged"


def database(seed: int, path: Path, rounds: int, *, closed: bool = False) -> tuple[Rounds, Files]:
    """What a killed broker leaves of a SQLite store, or one that was closed."""

    async def fill() -> Files:
        driver = open_sqlite(f"sqlite:///{path}?min_free_bytes=0")
        await driver.open(player.now, Heard())
        for _ in range(rounds):
            await _play(player, driver)
        files = {} if closed else _of_database(path)
        await driver.close()
        return files or _of_database(path)

    player = Rounds(seed, PAYLOAD)
    return player, asyncio.run(fill())


def _of_database(path: Path) -> Files:
    names = (path.name, f"{path.name}-wal", mark.path_of(path).name)
    paths = (path.with_name(name) for name in names)
    return {one.name: one.read_bytes() for one in paths if one.exists()}


async def _play(player: Rounds, driver: Driver) -> None:
    for act in await player.next():
        await act.call(player.model)
        await act.call(driver)


def put(files: Files, folder: Path) -> None:
    """The files, and no others."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)


# --- reading ----------------------------------------------------------------------------------


class KeptFiles(ThisMachine):
    """Files that are in memory only, to be read."""

    def __init__(self, files: Files) -> None:
        self.files: dict[str, bytes | bytearray] = dict(files)

    def exists(self, path: Path) -> bool:
        return path.name in self.files

    def is_directory(self, path: Path) -> bool:
        return True

    def names(self, directory: Path) -> list[str]:
        return list(self.files)

    def read(self, path: Path) -> bytes:
        return bytes(self.files[path.name])


def frames_of(machine: KeptFiles) -> list[tuple[int, int, bytes]]:
    """All that a store would be made of. Raises StoreRefused."""
    frames = Reader(Path("journal"), machine).frames()
    return [(header.number, frame.sequence, bytes(frame.body)) for header, frame in frames]


#: By which a store says that it cannot be used, and the client of SQLite to its driver.
REFUSALS = (StoreError, sqlite3.Error, UnicodeDecodeError)


def rows_of(path: Path) -> list[object]:
    """Everything that a SQLite store holds, once it was looked at as its driver does. Raises
    REFUSALS."""
    file.check_place(path, upgrade=False)
    mark.check(path)
    file.check_content(path)
    with closing(sqlite3.connect(path)) as connection:
        # It is to find out, not to bring home.
        connection.execute("PRAGMA query_only = ON")
        master = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        tables = [name for (name,) in connection.execute(master)]
        return [(name, connection.execute(f"SELECT * FROM {name}").fetchall()) for name in tables]


# --- damaging -----------------------------------------------------------------------------------


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def some(of: Iterable[int], most: int, seed: int) -> list[int]:
    """All of them if ``most`` is 0."""
    every = list(of)
    return every if not most or most >= len(every) else random.Random(seed).sample(every, most)


def outcome_of(read: Callable[[], object], sound: object) -> str:
    try:
        found = read()
    except REFUSALS:
        return "refused"
    return "unharmed" if found == sound else "wrong"
