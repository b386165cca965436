"""`towline-broker export` and `import`: every job once, as it stood, in any kind of store."""

import asyncio
import json
import re
import signal
import sqlite3
import subprocess
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from tests.archive.conftest import EMBEDDED, NewStore
from tests.archive.support import (
    export_of_everything,
    goes_in_and_comes_out,
    jobs_in,
    opened,
    run,
    wait_for,
)
from tests.support.broker_process import COMMAND, BrokerProcess
from towline_broker.archive.exporting import wanted
from towline_broker.archive.needs import Needs, lacking
from towline_broker.archive.reading import opened as opened_archive
from towline_broker.archive.sorting import Sorter
from towline_broker.domain.jobs import DeadReason, JobState
from towline_broker.domain.retry import RetryPolicy
from towline_broker.domain.time import SECOND
from towline_broker.drivers.interface import Capabilities, Durability, Feature, PushBatch
from towline_broker.drivers.sql.sqlite.driver import SqliteDriver
from towline_broker.testing import new_job, new_jobs

#: Exit codes.
NOT_DONE, BAD_FILE, REFUSED, NOT_WRITTEN = 1, 65, 66, 73


@pytest.fixture
def exported(new_store: NewStore, tmp_path: Path) -> Path:
    """The export of a store with a job of everything but LEASED."""
    return export_of_everything(new_store("sqlite"), tmp_path)


@pytest.mark.parametrize("kind", EMBEDDED)
def test_p6_every_job_goes_into_any_store_and_comes_out_as_it_was(
    kind: str, exported: Path, new_store: NewStore
) -> None:
    """The same over servers: tests/contract."""
    goes_in_and_comes_out(exported, new_store(kind))


@pytest.mark.parametrize("kind", EMBEDDED)
async def test_a_leased_job_comes_back_as_if_its_lease_was_lost(
    kind: str, new_store: NewStore, tmp_path: Path
) -> None:
    source, target, file = new_store(kind), new_store(kind), tmp_path / "jobs.jsonl"
    once, more, waits = new_job(retry=RetryPolicy(1)), new_job(), new_job()
    async with opened(source) as store:
        await store.create(once, more)
        await store.reserve(max_jobs=2, worker_id="w")
        await store.create(waits, low := new_job(priority=-1))
    await asyncio.to_thread(run, "export", "--store", source, str(file))
    assert [(job["id"], job["state"]) for job in jobs_in(file)] == [
        (waits.id, "READY"),
        (once.id, "LEASED"),
        (more.id, "LEASED"),
        (low.id, "READY"),
    ]
    await asyncio.to_thread(run, "import", "--store", target, str(file))
    async with opened(target) as store:
        dead = await store.get(once.id)
        assert (dead.state, dead.dead_reason) == (JobState.DEAD, DeadReason.LEASE_EXPIRED)
        leased = await store.reserve(max_jobs=5)
        assert [(one.ref.job_id, one.attempt) for one in leased] == [
            (waits.id, 1),
            (more.id, 2),
            (low.id, 1),
        ]


def count_in(store: Path) -> int:
    """Jobs that were committed; 0 if there are no tables yet."""
    try:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as connection:
            (count,) = connection.execute("SELECT COUNT(*) FROM towline_jobs").fetchone()
            return int(count)
    except sqlite3.OperationalError:
        return 0


def test_p3_an_import_that_was_killed_goes_on_and_stores_each_job_once(
    new_store: NewStore, tmp_path: Path
) -> None:
    source, target, file = new_store("sqlite"), new_store("sqlite"), tmp_path / "jobs.jsonl"

    async def make() -> None:
        async with opened(source) as store:
            for _ in range(3):
                await store.driver.push(PushBatch(new_jobs(1_000), store.now))

    asyncio.run(make())
    run("export", "--store", source, str(file))
    command = (*COMMAND, "import", "--store", target, str(file))
    importing = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_for(lambda: count_in(Path(target.removeprefix("sqlite:///"))) > 1)
    importing.send_signal(signal.SIGKILL)
    importing.communicate(timeout=30)

    async def taken() -> tuple[list[str], int]:
        async with opened(target) as store:
            page = await store.copies()
            return [one.ref.job_id for one in await store.reserve(max_jobs=1)], len(page)

    ids, there = asyncio.run(taken())
    assert 0 < there < 3_000
    assert ids == [], "nobody works on a part of a queue"
    found = run("check", "--store", target, code=NOT_DONE).stdout
    assert "gives workers nothing until an import is finished" in found
    assert "give the same import again" in found
    said = run("import", "--store", target, str(file)).stderr
    assert f"imported {3_000 - there:,} jobs" in said
    assert f"{there:,} jobs known already" in said
    ids, there = asyncio.run(taken())
    assert (ids, there) == ([jobs_in(file)[0]["id"]], 3_000)


def test_a_queue_of_an_import_that_is_given_up_is_opened(
    exported: Path, new_store: NewStore
) -> None:
    url = new_store("sqlite")

    async def seal() -> None:
        async with opened(url) as store:
            await store.create(new_job("other"))
            await store.seal("import:0123456789abcdef", "other")

    asyncio.run(seal())
    said = run("import", "--store", url, str(exported), code=NOT_DONE).stderr
    assert "queue 'other' waits for the rest of another file" in said
    assert "opened other" in run("import", "--store", url, "--abandon").stderr
    run("import", "--store", url, str(exported))


def test_a_file_that_is_not_whole_is_refused_and_nothing_stored(
    exported: Path, new_store: NewStore, tmp_path: Path
) -> None:
    content, bad = exported.read_bytes(), tmp_path / "bad.jsonl"
    url = new_store("sqlite")
    lines = content.splitlines(keepends=True)
    changed = content.replace(b'"attempt":1', b'"attempt":2', 1)
    assert changed != content
    for damaged, what in (
        (b"", "it is empty"),
        (content[: len(content) // 2], "cut short"),
        (content[:-1], "cut short"),
        (b"".join(lines[:-1]), "its last line is missing"),
        (b"".join([*lines[:3], *lines[4:]]), "its checksum is another one"),
        (changed, "its checksum is another one"),
        (content + b"{}\n", "stands behind the last one"),
        (b"\xff\n" + content, "line 1 is none of an export"),
        (b"".join(lines[1:]), "its first line is not that of an export"),
        (content.replace(b'"version":1', b'"version":2', 1), "has format 2"),
    ):
        bad.write_bytes(damaged)
        for given, stdin in ((str(bad), None), ("-", damaged)):
            said = run("import", "--store", url, given, code=BAD_FILE, stdin=stdin).stderr
            assert what in said
    assert not Path(url.removeprefix("sqlite:///")).exists()


def test_what_a_store_cannot_keep_is_named(exported: Path) -> None:
    with opened_archive(exported, BytesIO()) as archive:
        needs = Needs.of(archive.jobs(), sizes=True)
    poor = Capabilities("poor", Durability.NONE, "", missing=frozenset(Feature))
    told = "\n".join(lacking(needs, poor, 0))
    for feature in (*(Feature.PRIORITY, Feature.UNIQUE_KEYS, Feature.EXPIRY, Feature.RETENTION),):
        assert f"does not offer {feature.value}, which job " in told
    assert "cannot take in jobs as they stand" in told
    small = Capabilities("small", Durability.NONE, "", max_delay=SECOND, max_envelope=3)
    told = "\n".join(lacking(needs, small, 0))
    assert "keeps no delay beyond 1 seconds" in told
    assert "keeps no more than 3 bytes of a job" in told


def test_a_store_that_lacks_something_is_refused_before_anything_is_stored(
    exported: Path, new_store: NewStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_store("sqlite")
    run("import", "--store", url, "--queue", "paused", str(exported))
    poor = Capabilities("poor", Durability.NONE, "", missing=frozenset(Feature))
    monkeypatch.setattr(SqliteDriver, "capabilities", poor)
    said = run("import", "--store", url, str(exported), code=REFUSED).stderr
    assert "cannot take in jobs as they stand" in said
    assert "does not offer priorities, which job" in said
    said = run("export", "--store", url, str(tmp_path / "none"), code=REFUSED).stderr
    assert "does not offer copying its jobs" in said
    assert not (tmp_path / "none").exists()
    monkeypatch.undo()
    assert "1 job:" in run("check", "--store", url).stderr


def test_queues_are_chosen_and_renamed(exported: Path, new_store: NewStore, tmp_path: Path) -> None:
    url, again = new_store("sqlite"), tmp_path / "again.jsonl"
    arguments = ("--queue", "o*", "--rename", "other=new", str(exported))
    dry = run("import", "--store", url, "--dry-run", *arguments)
    assert dry.stdout == "new: 6 jobs\n"
    assert not Path(url.removeprefix("sqlite:///")).exists()
    run("import", "--store", url, *arguments)
    run("export", "--store", url, str(again))
    assert {job["queue"] for job in jobs_in(again)} == {"new"}
    old = [job["id"] for job in jobs_in(exported) if job["queue"] == "other"]
    assert [job["id"] for job in jobs_in(again)] == old
    run("export", "--store", url, "--queue", "nobody's", "--force", str(again))
    assert jobs_in(again) == []
    said = run("import", "--store", url, "--rename", "x=y", str(exported), code=2).stderr
    assert "the file has no queue 'x'" in said


def test_a_star_alone_stands_for_other_text() -> None:
    assert wanted("emails", ["e*ls"])
    assert not wanted("emails", ["email?", "[a-z]mails"])


def test_a_store_that_a_broker_owns_is_checked_and_otherwise_left_alone(
    exported: Path, new_store: NewStore, tmp_path: Path
) -> None:
    url = new_store("sqlite")
    with BrokerProcess(url, folder=tmp_path) as broker:
        said = run("export", "--store", url, str(tmp_path / "x"), code=REFUSED).stderr
        assert f"is in use by a broker (process {broker.pid}); stop it, or copy the store" in said
        said = run("import", "--store", url, str(exported), code=REFUSED).stderr
        assert f"is in use by a broker (process {broker.pid}); stop it before" in said
        said = run("check", "--store", url, "--repair", code=REFUSED).stderr
        assert f"is in use by another broker (process {broker.pid})" in said
        checked = run("check", "--store", url)
        assert (checked.stdout, "is sound" in checked.stderr) == ("", True)


def test_a_file_is_written_over_only_if_asked_to(exported: Path, new_store: NewStore) -> None:
    url, content = new_store("sqlite"), exported.read_bytes()
    run("import", "--store", url, str(exported))
    said = run("export", "--store", url, str(exported), code=NOT_WRITTEN).stderr
    assert "give --force" in said
    assert exported.read_bytes() == content
    run("export", "--store", url, "--force", str(exported))
    missing = new_store("sqlite")
    said = run("export", "--store", missing, "--force", str(exported), code=REFUSED).stderr
    assert "there is no store at" in said
    assert json.loads(exported.read_text().splitlines()[0])["is"] == "towline-export"


def test_lines_are_sorted_in_a_bounded_part_of_memory(tmp_path: Path) -> None:
    numbers = [(index * 7919) % 1000 for index in range(1000)]
    with Sorter(tmp_path, most_held=10_000) as sorter:
        for number in numbers:
            sorter.add(number.to_bytes(4, "big"), f"line {number}\n".encode() * 3)
        found = [int.from_bytes(key, "big") for key, _ in sorter.in_order()]
    assert found == sorted(numbers)


def test_the_example_of_the_page_can_be_imported(new_store: NewStore, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
    example, url = tmp_path / "example.jsonl", new_store("sqlite")
    example.write_text(page.partition("```json\n")[2].partition("```")[0])
    run("import", "--store", url, str(example))
    assert "1 job: 1 ready" in run("check", "--store", url).stderr


def test_every_option_that_the_page_names_exists() -> None:
    page = (Path(__file__).parents[2] / "docs" / "backup.md").read_text()
    for name in ("backup", "export", "import", "check"):
        told = run(name, "--help").stdout
        for line in re.findall(rf"towline-broker {name} ([^`\n|]*)", page):
            for option in re.findall(r"--[a-z-]+", line):
                assert option in told, f"{name} {line}"
