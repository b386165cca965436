"""`towline-broker backup`: a copy of a store that is in use holds what was acknowledged before."""

import asyncio
import os
import signal
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.archive.conftest import EMBEDDED, NewStore
from tests.archive.load import Load
from tests.archive.support import opened, run
from tests.support.broker_process import COMMAND, BrokerProcess
from tests.support.calls import calls_to
from tests.support.waiting import until
from towline_broker.archive import backups
from towline_broker.testing import new_job, new_jobs

REFUSED, NOT_WRITTEN = 66, 73


def put_back(url: str, copy: Path, lost: Path) -> None:
    """As docs/backup.md says."""
    place = Path(url.partition(":///")[2].partition("?")[0])
    lost.mkdir()
    for file in place.parent.glob(f"{place.name}*"):
        file.rename(lost / file.name)
    copy.rename(place)


async def kill_one(command: Sequence[str], draft: Path) -> None:
    """In the middle of its work."""
    killed = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)

    async def begun() -> bool:
        return os.path.exists(draft)  # noqa: ASYNC240, PTH110 - takes no time

    await until(begun, "a backup that has begun")
    killed.send_signal(signal.SIGKILL)
    await killed.communicate()


@pytest.mark.parametrize("kind", EMBEDDED)
async def test_p1_a_backup_under_load_holds_every_job_acknowledged_before_it_began(
    kind: str, new_store: NewStore, tmp_path: Path
) -> None:
    url, copy = new_store(kind), tmp_path / "copy"
    command = (*COMMAND, "backup", "--store", url, str(copy))
    with BrokerProcess(url, folder=tmp_path) as broker:
        async with calls_to(broker.address) as calls, Load(calls).running() as load:
            await load.more()
            await kill_one(command, tmp_path / "copy.part")
            assert not copy.exists(), "it ended before it was killed"

            # Here, and not by the command, which takes a second to begin with it.
            before = set(load.pushed)
            await asyncio.to_thread(backups.back_up, url, copy, force=False)
            settled, begun = set(load.settled), set(load.begun)
            in_use = await asyncio.to_thread(run, "check", "--store", url)
            assert "is sound" in in_use.stderr
            await load.more()
        broker.kill()
    restored = f"{kind}:///{copy}"
    assert "is sound" in (await asyncio.to_thread(run, "check", "--store", restored)).stderr
    put_back(url, copy, tmp_path / "lost")
    async with opened(url) as store:
        ids = [one.transfer.new.id for one in await store.copies()]
    assert len(ids) == len(set(ids))
    assert before - settled <= set(ids) <= begun
    assert before - settled, "the load leaves jobs behind"
    assert not (tmp_path / "copy.part").exists()


@pytest.mark.parametrize("kind", EMBEDDED)
def test_nothing_is_put_in_the_place_of_a_store_without_being_told(
    kind: str, new_store: NewStore, tmp_path: Path
) -> None:
    first, second, copy = new_store(kind), new_store(kind), str(tmp_path / "copy")

    async def fill() -> None:
        for url, count in ((first, 3), (second, 5)):
            async with opened(url) as store:
                await store.create(*new_jobs(count))

    async def there() -> int:
        async with opened(f"{kind}:///{copy}") as store:
            return len(await store.copies())

    asyncio.run(fill())
    run("backup", "--store", first, copy)
    assert Path(copy).stat().st_mode & 0o077 == 0, "nobody else can read payloads"
    said = run("backup", "--store", second, copy, code=NOT_WRITTEN).stderr
    assert "is there already; name another place, or give --force" in said
    nowhere = tmp_path / "nowhere"
    said = run("backup", "--store", second, str(nowhere / "copy"), code=NOT_WRITTEN).stderr
    assert f"{nowhere}: No such file or directory" in said
    # It is a store, and was used as one.
    assert asyncio.run(there()) == 3
    run("backup", "--store", second, "--force", copy)
    assert asyncio.run(there()) == 5
    (tmp_path / "else").mkdir()
    said = run(
        "backup", "--store", first, "--force", str(tmp_path / "else"), code=NOT_WRITTEN
    ).stderr
    assert "is not a" in said


def test_a_store_that_is_damaged_has_no_backup(new_store: NewStore, tmp_path: Path) -> None:
    url, copy = new_store("file"), tmp_path / "copy"

    async def fill() -> None:
        async with opened(url) as store:
            await store.create(*new_jobs(3))
            await store.create(new_job())

    asyncio.run(fill())
    journal = next(Path(url.removeprefix("file:///").partition("?")[0]).glob("journal-*"))
    content = bytearray(journal.read_bytes())
    content[100] ^= 1
    journal.write_bytes(content)
    said = run("backup", "--store", url, str(copy), code=REFUSED).stderr
    assert "neither is the store, as it seems" in said
    assert not copy.exists()


def test_a_store_of_an_earlier_release_is_backed_up_before_it_is_upgraded(tmp_path: Path) -> None:
    script = (Path(__file__).parents[1] / "drivers" / "store_of_version_1.sql").read_text()
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.executescript(script)
    url, copy = f"sqlite:///{tmp_path}/old.db", tmp_path / "copy.db"
    assert "schema version 1" in run("check", "--store", url).stderr
    run("backup", "--store", url, str(copy))
    run("schema", "upgrade", "--store", f"sqlite:///{copy}")
    assert "is sound" in run("check", "--store", f"sqlite:///{copy}").stderr


def test_a_server_makes_its_own_backups(tmp_path: Path) -> None:
    for url, tool in (
        ("postgresql://localhost/jobs", "pg_dump"),
        ("mysql://localhost/jobs", "mysqldump"),
        ("redis://localhost", "its RDB"),
        ("memory:", "ends with its process"),
    ):
        said = run("backup", "--store", url, str(tmp_path / "copy"), code=REFUSED).stderr
        assert tool in said
