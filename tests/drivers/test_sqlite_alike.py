"""Jobs that are alike are leased and acknowledged as a whole; that comes to the same as one by one.

The same calls are made to two stores, one of which looks at each job by itself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

import pytest

from tests.drivers.sqlite_support import opened, writer_of, writing_connection
from tests.support.stores import LEASE, ack, push, reserve
from towline_broker.domain.jobs import JobState, Leased, NewJob, Progress
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import (
    AckBatch,
    AckItem,
    Driver,
    ExtendBatch,
    ExtendItem,
    ReserveRequest,
)
from towline_broker.drivers.sql import acks, claims
from towline_broker.drivers.sql.sqlite import connection
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.testing.factories import START, new_job, new_jobs, numbered_id

TABLES = ("jobs", "envelopes", "notes", "settled", "counters", "unique_keys")


def one_by_one(patched: pytest.MonkeyPatch) -> None:
    patched.setattr(claims._Room, "_take_all", lambda self, candidates: False)
    patched.setattr(acks, "_kind_of_all", lambda *batch: None)
    patched.setattr(connection, "_follow_each_other", lambda keys: False)


def tables(driver: SqliteDriver) -> dict[str, list[object]]:
    sqlite = writing_connection(driver)
    return {name: sqlite.execute(f"SELECT * FROM towline_{name}").fetchall() for name in TABLES}


def some_jobs(chance: Random) -> list[NewJob]:
    """Mostly alike; now and then one that is not."""
    odd: Sequence[Mapping[str, object]] = (
        *({}, {}, {}, {}, {}, {}),
        *({"retention": HOUR}, {"priority": 3}, {"type": "U"}, {"envelope": b"longer" * 9}),
        *({"expires_at": START + 2}, {"expires_at": START + HOUR}, {"queue": "other"}),
    )
    jobs = []
    for number in range(chance.randrange(1, 40)):
        fields: dict[str, object] = {
            "id": numbered_id(chance.randrange(1 << 60)),
            **chance.choice(odd),
        }
        if chance.random() < 0.03:
            fields["unique_key"] = f"key-{number}"
        jobs.append(new_job(**fields))  # type: ignore[arg-type]  # fields of any type, as given
    return jobs if chance.random() < 0.5 else [new_job(id=job.id) for job in jobs]


async def played(driver: Driver, seed: int) -> list[object]:
    """The answers."""
    chance = Random(seed)
    answers: list[object] = []
    live: list[Leased] = []
    for number in range(25):
        now = START + number
        answers.append(await push(driver, *some_jobs(chance), now=now))
        size = chance.choice((None, None, 1, 70, 150, 5_000))
        queues = chance.choice((["q"], ["other", "q"]))
        leased = await driver.reserve(
            ReserveRequest(
                queues, chance.randrange(1, 50), LEASE, f"g{number}", now, max_bytes=size
            )
        )
        answers.append(leased)
        live += leased
        if leased and chance.random() < 0.3:
            noted = [ExtendItem(leased[0].ref, progress=Progress(0.5))]
            answers.append(await driver.extend(ExtendBatch(noted, now)))
        items = [AckItem(one.ref) for one in live[: chance.randrange(60)]]
        del live[: len(items)]
        if items and chance.random() < 0.2:
            items[-1] = AckItem(items[-1].ref, b"result")
        if items and chance.random() < 0.2:
            items.append(items[0])
        if items and chance.random() < 0.2:
            items[0] = AckItem(items[0].ref._replace(grant="another"))
        if items and chance.random() < 0.2:
            items[0] = AckItem(items[0].ref._replace(queue="elsewhere"))
        answers.append(await driver.ack(AckBatch(items, now, now + HOUR)))
    return answers


@pytest.mark.parametrize("seed", range(6))
async def test_as_a_whole_it_comes_to_the_same(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "whole.db") as driver:
        whole = await played(driver, seed), tables(driver)
    one_by_one(monkeypatch)
    async with opened(tmp_path / "each.db") as driver:
        assert (await played(driver, seed), tables(driver)) == whole


async def test_alike_they_are_leased_and_removed_by_ranges(tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(7))
        asked: list[str] = []
        writing_connection(driver).set_trace_callback(asked.append)
        leased = await reserve(driver, 5)
        await driver.ack(AckBatch([AckItem(one.ref) for one in leased], START, START + HOUR))
        assert [sql.split()[0] for sql in asked if " BETWEEN " in sql] == [
            "UPDATE",
            *["DELETE"] * 2,
        ]
        left = tables(driver)["jobs"]
        assert [row[5] for row in left if isinstance(row, tuple)] == [JobState.READY] * 2


async def test_one_with_a_unique_key_among_others_frees_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(2), new_job(unique_key="key"))
        await ack(driver, await reserve(driver, 3))
        assert tables(driver)["unique_keys"] == []


async def test_one_with_notes_among_others_takes_them_along(tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(3))
        (first, *_) = leased = await reserve(driver, 3)
        await driver.extend(ExtendBatch([ExtendItem(first.ref, progress=Progress(0.5))], START))
        await ack(driver, leased)
        assert tables(driver)["notes"] == []


async def test_read_from_the_file_they_end_as_a_whole_as_well(tmp_path: Path) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(3))
        leased = await reserve(driver, 3)
        writer_of(driver)._held.clear()
        assert [settled.applied for settled in await ack(driver, leased[::-1])] == [True] * 3
        assert tables(driver)["jobs"] == []
