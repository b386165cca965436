"""What the suite cannot know of: urls, files of others, a second broker."""

import sqlite3
from pathlib import Path

import pytest

from towline_broker.domain.errors import StoreRefused
from towline_broker.drivers.registry import create_driver
from towline_broker.testing.heard import Heard


@pytest.mark.parametrize("url", ["shelf:", "shelf:jobs", "shelf:///jobs/", "shelf:///a?b=c"])
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(StoreRefused):
        create_driver(url)


async def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, database = tmp_path / "text", tmp_path / "database"
    text.write_text("not a database, but a text that is long enough to be taken for one" * 20)
    with sqlite3.connect(database) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    for place in (text, database):
        before = place.read_bytes()
        with pytest.raises(StoreRefused, match="no file of a shelf"):
            await create_driver(f"shelf://{place}").open(1, Heard())
        assert place.read_bytes() == before


async def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    driver = create_driver(f"shelf://{tmp_path}/jobs.shelf")
    await driver.open(1, Heard())
    await driver.close()
    with sqlite3.connect(tmp_path / "jobs.shelf") as database:
        database.execute("INSERT INTO calls (call) VALUES ('[1,\"unheard_of\",[]]')")
    database.close()
    with pytest.raises(StoreRefused, match="call 1 is none that this version can read"):
        await create_driver(f"shelf://{tmp_path}/jobs.shelf").open(1, Heard())


async def test_a_second_broker_is_refused(tmp_path: Path) -> None:
    first, second = (create_driver(f"shelf://{tmp_path}/jobs.shelf") for _ in range(2))
    await first.open(1, Heard())
    with pytest.raises(StoreRefused, match="in use by another broker"):
        await second.open(1, Heard())
    await first.close()
    await second.open(1, Heard())
    await second.close()
