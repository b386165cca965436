"""`towline-broker check`: what does not hold together is told, and nothing is changed by it.

Over servers: tests/contract.
"""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.archive.conftest import EMBEDDED, NewStore
from tests.archive.support import is_found_by_check, opened, run
from towline_broker.domain.time import HOUR
from towline_broker.drivers.sql.sqlite import checking, mark
from towline_broker.testing import new_job, new_jobs
from towline_broker.testing.transfers import fill

REFUSED = 66


def filled(url: str) -> Path:
    async def fill_it() -> None:
        async with opened(url) as store:
            await fill(store)
            await store.create(new_job(unique_key="gone"), *new_jobs(2, retention=HOUR))
            await store.reserve(max_jobs=2)

    asyncio.run(fill_it())
    return Path(url.partition(":///")[2].partition("?")[0])


@pytest.mark.parametrize("kind", EMBEDDED)
def test_a_sound_store_is_called_sound(kind: str, new_store: NewStore) -> None:
    """One that a broker uses: test_export_and_import.py, test_backup.py."""
    url = new_store(kind)
    filled(url)
    said = run("check", "--store", url)
    assert (said.stdout, "is sound" in said.stderr) == ("", True)


#: What is done to the tables, and what is said of it.
WRONG = [
    ("UPDATE towline_counters SET ready = ready + 3", " ready by the counts, and "),
    ("DELETE FROM towline_counters", "0 ready by the counts, and"),
    ("INSERT INTO towline_envelopes VALUES (123456789, 'x')", "1 payloads belong to no job"),
    ("INSERT INTO towline_notes (seq) VALUES (123456789)", "1 failures and reports of progress"),
    ("DELETE FROM towline_notes", "have lost their last failure and progress"),
    (
        "INSERT INTO towline_unique_keys SELECT 'k2', queue, 'nobody', NULL FROM towline_jobs"
        " LIMIT 1",
        "1 unique keys are held by jobs that have ended or are gone, job nobody",
    ),
]
#: What cannot be put right.
LOST = [
    (
        "DELETE FROM towline_envelopes WHERE seq = (SELECT MIN(seq) FROM towline_jobs)",
        "1 jobs have lost their payload",
    ),
    ("UPDATE towline_jobs SET kind = 99 WHERE state = 5", "of a queue or type that is not there"),
    ("UPDATE towline_jobs SET lease_grant = NULL WHERE state = 3", "state that does not agree"),
    ("UPDATE towline_jobs SET position = 1 WHERE state = 2", "share their place in a line"),
    ("UPDATE towline_meta SET sequence = 1", "and the next one given out would be 2"),
]


def spoil(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_rows_that_do_not_agree_are_found_and_put_right_where_nothing_is_lost(
    new_store: NewStore,
) -> None:
    url = new_store("sqlite")
    path = filled(url)
    for statement, what in WRONG:
        spoil(path, statement)
        assert what in " ".join(finding.what for finding in checking.check(path).findings)
        repaired = checking.repair(path)
        assert what in " ".join(repaired.repaired)
        assert not repaired.findings
    sound = path.read_bytes()
    # Otherwise what the last one does is told by that.
    mark.path_of(path).unlink()
    for statement, what in LOST:
        spoil(path, statement)
        spoil(path, "UPDATE towline_counters SET ready = ready + 3")
        before = path.read_bytes()
        report = checking.repair(path)
        assert what in " ".join(finding.what for finding in report.findings)
        assert (report.repaired, path.read_bytes()) == ((), before)
        path.write_bytes(sound)
    spoil(path, WRONG[0][0])
    is_found_by_check(url, WRONG[0][1])
    assert WRONG[0][1] in run("check", "--store", url, "--repair").stdout
    assert "is sound" in run("check", "--store", url).stderr


@pytest.mark.parametrize("kind", EMBEDDED)
def test_damage_is_found_and_its_place_named(kind: str, new_store: NewStore) -> None:
    url = new_store(kind)
    path = filled(url)
    file = path if kind == "sqlite" else next(path.glob("journal-*"))
    content = bytearray(file.read_bytes())
    place = 4096 * 3 if kind == "sqlite" else 200
    content[place : place + 8] = b"\xff" * 8
    file.write_bytes(content)
    is_found_by_check(url, "malformed" if kind == "sqlite" else "is damaged at offset")
    assert file.read_bytes() == content


def test_what_is_not_there_or_not_ours_is_refused(new_store: NewStore, tmp_path: Path) -> None:
    assert "there is no store at" in run("check", "--store", new_store("sqlite"), code=66).stderr
    (tmp_path / "other.db").write_text("something else")
    said = run("check", "--store", f"sqlite:///{tmp_path}/other.db", code=REFUSED).stderr
    assert "is not a SQLite database" in said
    said = run("check", "--store", new_store("file"), "--repair", code=REFUSED).stderr
    assert "other damage needs a backup" in said


@pytest.mark.parametrize("kind", EMBEDDED)
@pytest.mark.parametrize(
    ("to", "what", "way_out"),
    [
        ("import:0123456789abcdef", "an import", "towline-broker import --abandon"),
        ("pg", "a move to store pg", "towline-broker move QUEUE --to STORE"),
    ],
)
def test_a_queue_that_was_left_sealed_is_told_with_the_way_out(
    kind: str, to: str, what: str, way_out: str, new_store: NewStore
) -> None:
    url = new_store(kind)

    async def seal() -> None:
        async with opened(url) as store:
            await store.create(new_job("emails"), new_job("other"))
            await store.seal(to, "emails")

    asyncio.run(seal())
    said = run("check", "--store", url, code=1)
    first, second = said.stdout.splitlines()
    assert first == f"queue emails gives workers nothing until {what} is finished"
    assert way_out in second
    assert "1 thing is wrong" in said.stderr


def test_one_remedy_is_told_once_and_what_is_left_out_is_counted(new_store: NewStore) -> None:
    url = new_store("sqlite")

    async def fill_it() -> None:
        async with opened(url) as store:
            await store.create(*(new_job(type=f"T{number}") for number in range(25)))

    asyncio.run(fill_it())
    spoil(Path(url.partition(":///")[2]), "DELETE FROM towline_counters")
    said = run("check", "--store", url, code=1)
    assert said.stdout.count("--repair counts anew") == 1
    assert len(said.stdout.splitlines()) == 22
    assert "and 5 more like these" in said.stdout
    assert "25 things are wrong" in said.stderr
    told = json.loads(run("check", "--store", url, "--json", code=1).stdout)
    assert (told["sound"], len(told["findings"])) == (False, 25)
    assert len(run("check", "--store", url, "--repair").stdout.splitlines()) == 25
