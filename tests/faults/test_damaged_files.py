"""Bits that flip, and files that are cut short: a store is refused, or it is unharmed.

A plain test run damages a store in some of all places, by chance; `make faults` in all of them (of
the pages of SQLite: in each byte of the log, and in as many of the file as are given).
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.faults.disks import damage
from tests.faults.disks.damage import Files, KeptFiles, flipped, frames_of, outcome_of, rows_of
from tests.faults.harness.figures import Figures, seed, size
from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.file import segments
from towline_broker.drivers.file.reading import Reader
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sql.sqlite import mark
from towline_broker.testing.factories import START
from towline_broker.testing.heard import Heard

#: How many places, of each kind of damage; 0: all.
PLACES = size("DAMAGE", 150)
#: Of the file of SQLite, which says little about most of its bits.
BITS = size("DAMAGED_BITS", 60)
SEED = seed()
#: What a page is of SQLite, and how its log is made.
PAGE, LOG_HEADER, FRAME_HEADER = 4096, 32, 24

#: Reading the journal in memory costs little.
JOURNAL_PLACES = 20 * PLACES


def shown(figures: Figures, what: str, outcomes: Counter[str]) -> None:
    counts = {name: outcomes[name] for name in ("refused", "unharmed", "wrong")}
    figures.show(what, places=outcomes.total(), **counts)


# --- the journal ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What a killed broker left of a file store, after some of it was compacted."""
    _, files = damage.journal(SEED, tmp_path_factory.mktemp("journal") / "store")
    return files


def used(files: Files) -> dict[str, int]:
    """Up to where each segment holds anything."""
    return {
        segments.path_of(Path(), number).name: end
        for number, end in ends_of(KeptFiles(files)).items()
    }


def ends_of(machine: KeptFiles) -> dict[int, int]:
    frames = Reader(Path("journal"), machine).frames()
    return {header.number: frame.end for header, frame in frames}


def damaged_journals(files: Files, damages: Iterable[tuple[str, bytes]]) -> Counter[str]:
    sound, machine = frames_of(KeptFiles(files)), KeptFiles(files)
    outcomes: Counter[str] = Counter()
    for name, content in damages:
        machine.files[name] = content
        outcomes[outcome_of(lambda: frames_of(machine), sound)] += 1
        machine.files[name] = files[name]
    return outcomes


@pytest.mark.timeout(240 if PLACES else 3_600)
def test_a_flipped_bit_in_a_journal_is_refused(journal: Files, figures: Figures) -> None:
    places = [(name, bit) for name, end in used(journal).items() for bit in range(8 * end)]
    chosen = damage.some(range(len(places)), JOURNAL_PLACES, SEED)
    damages = ((places[i][0], flipped(journal[places[i][0]], places[i][1])) for i in chosen)
    outcomes = damaged_journals(journal, damages)
    shown(figures, f"file: bits flipped in {len(used(journal))} segments", outcomes)
    assert outcomes == {"refused": len(chosen)}


def test_a_flipped_bit_where_there_is_nothing_is_no_damage(journal: Files) -> None:
    damages = [
        (name, flipped(journal[name], 8 * end + bit))
        for name, end in used(journal).items()
        for bit in range(64)
    ]
    outcomes = damaged_journals(journal, damages)
    assert outcomes == {"unharmed": len(damages)}


@pytest.mark.timeout(240 if PLACES else 3_600)
def test_a_segment_of_any_other_length_is_refused(journal: Files, figures: Figures) -> None:
    lengths = [(name, length) for name in used(journal) for length in range(len(journal[name]))]
    chosen = damage.some(range(len(lengths)), JOURNAL_PLACES, SEED)
    damages = ((lengths[i][0], journal[lengths[i][0]][: lengths[i][1]]) for i in chosen)
    outcomes = damaged_journals(journal, damages)
    shown(figures, f"file: lengths of {len(used(journal))} segments", outcomes)
    assert outcomes == {"refused": len(chosen)}


def test_a_sector_that_cannot_be_read_or_was_never_written_is_refused(journal: Files) -> None:
    sector = 512
    damages = [
        (name, content[:at] + filler * sector + content[at + sector :])
        for name, end in used(journal).items()
        for content in [journal[name]]
        for at in range(0, end, sector)
        for filler in (b"\0", b"\xff")
        # It may hold nothing else anyway.
        if content[at : min(at + sector, end)].strip(filler)
    ]
    outcomes = damaged_journals(journal, damages)
    assert outcomes == {"refused": len(damages)}


def test_a_missing_segment_is_refused(journal: Files, tmp_path: Path) -> None:
    for name in used(journal):
        without = {other: content for other, content in journal.items() if other != name}
        damage.put(without, tmp_path)
        with pytest.raises(StoreRefused):
            opened(f"file:///{tmp_path}")


def test_a_store_that_is_refused_is_left_as_it_is_and_the_place_is_named(
    journal: Files, tmp_path: Path
) -> None:
    ends = used(journal)
    for name, end in ends.items():
        bit = random.Random(SEED).randrange(8 * segments.HEADER_SIZE, 8 * end)
        damaged = {**journal, name: flipped(journal[name], bit)}
        damage.put(damaged, tmp_path)
        with pytest.raises(StoreRefused, match=rf"{name} is damaged at offset \d+"):
            opened(f"file:///{tmp_path}")
        assert all((tmp_path / name).read_bytes() == content for name, content in damaged.items())


def opened(url: str) -> None:
    async def open_and_close() -> None:
        driver = create_driver(url)
        await driver.open(START, Heard())
        await driver.close()

    asyncio.run(open_and_close())


# --- SQLite -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What a killed broker left of a SQLite store: nothing was brought home from the log."""
    place = tmp_path_factory.mktemp("killed") / "jobs.db"
    return damage.database(SEED, place, rounds=3)[1]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """All of it was brought home."""
    place = tmp_path_factory.mktemp("closed") / "jobs.db"
    return damage.database(SEED, place, rounds=40, closed=True)[1]


def damaged_databases(
    files: Files, folder: Path, name: str, contents: Iterable[bytes]
) -> Counter[str]:
    path = folder / "jobs.db"
    damage.put(files, folder)
    sound, outcomes = rows_of(path), Counter[str]()
    for content in contents:
        damage.put({**files, name: content}, folder)
        outcomes[outcome_of(lambda: rows_of(path), sound)] += 1
    return outcomes


@pytest.mark.timeout(240 if PLACES else 7_200)
def test_a_flipped_bit_in_the_log_of_sqlite_is_refused(
    killed: Files, tmp_path: Path, figures: Figures
) -> None:
    log, chance = killed["jobs.db-wal"], random.Random(SEED)
    frame = FRAME_HEADER + PAGE
    headers = [
        at for at in range(len(log)) if at < LOG_HEADER or (at - LOG_HEADER) % frame < FRAME_HEADER
    ]
    every = [8 * at + bit for at in headers for bit in range(8)]
    every += [8 * at + chance.randrange(8) for at in range(len(log))]
    bits = damage.some(every, PLACES, SEED)
    contents = (flipped(log, bit) for bit in bits)
    outcomes = damaged_databases(killed, tmp_path, "jobs.db-wal", contents)
    shown(figures, "sqlite: bits flipped in the log", outcomes)
    assert outcomes == {"refused": len(bits)}


@pytest.mark.timeout(240 if PLACES else 7_200)
@pytest.mark.parametrize("name", ["jobs.db", "jobs.db-wal"])
def test_a_store_of_sqlite_that_was_cut_short_is_refused(
    name: str, killed: Files, tmp_path: Path, figures: Figures
) -> None:
    lengths = damage.some(range(len(killed[name])), PLACES, SEED)
    contents = (killed[name][:length] for length in lengths)
    outcomes = damaged_databases(killed, tmp_path, name, contents)
    shown(figures, f"sqlite: lengths of {name}, as a kill left it", outcomes)
    assert outcomes == {"refused": len(lengths)}


@pytest.mark.timeout(240 if PLACES else 7_200)
def test_a_closed_store_of_sqlite_that_was_cut_short_is_not_taken_for_whole(
    closed: Files, tmp_path: Path, figures: Figures
) -> None:
    content = closed["jobs.db"]
    lengths = damage.some(range(len(content)), PLACES, SEED)
    outcomes = damaged_databases(
        closed, tmp_path, "jobs.db", (content[:length] for length in lengths)
    )
    shown(figures, "sqlite: lengths of jobs.db, closed", outcomes)
    # Its last page may be one that holds nothing.
    assert outcomes["wrong"] == 0
    assert outcomes["unharmed"] <= PAGE


def test_a_store_of_sqlite_without_its_log_is_refused(killed: Files, tmp_path: Path) -> None:
    without = {name: content for name, content in killed.items() if name != "jobs.db-wal"}
    damage.put(without, tmp_path)
    with pytest.raises(StoreRefused, match=r"what was committed last is missing.*remove"):
        opened(f"sqlite:///{tmp_path / 'jobs.db'}")
    assert (tmp_path / "jobs.db").read_bytes() == killed["jobs.db"]
    # An older copy that was put back on purpose.
    mark.path_of(tmp_path / "jobs.db").unlink()
    opened(f"sqlite:///{tmp_path / 'jobs.db'}")


def test_a_backup_beside_the_log_of_the_lost_store_is_refused_and_the_way_out_names_the_log(
    killed: Files, tmp_path: Path
) -> None:
    store = tmp_path / "jobs.db"
    damage.put({**killed, "jobs.db": killed["jobs.db"][:-PAGE]}, tmp_path)
    with pytest.raises(StoreRefused) as refused:
        opened(f"sqlite:///{store}")
    assert f"remove what the lost store left beside it, {store}-wal, {store}-shm" in str(
        refused.value
    )


@pytest.mark.timeout(240 if BITS < 1_000 else 3_600)
def test_of_flipped_bits_in_the_file_of_sqlite_is_told_what_was_noticed(
    closed: Files, tmp_path: Path, figures: Figures
) -> None:
    """SQLite keeps no checksums of what it has brought home: docs/sqlite.md says so."""
    content = closed["jobs.db"]
    bits = damage.some(range(8 * len(content)), BITS, SEED)
    contents = (flipped(content, bit) for bit in bits)
    outcomes = damaged_databases(closed, tmp_path, "jobs.db", contents)
    shown(figures, "sqlite: bits flipped in jobs.db, closed", outcomes)
    assert sum(outcomes.values()) == len(bits)
    # The header and the structure of pages are covered, in any case.
    damaged = flipped(content, 8 * PAGE)
    assert damaged_databases(closed, tmp_path, "jobs.db", [damaged]) == {"refused": 1}
