"""The commands, and stores filled for them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from towline_broker.cli import app
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import Harness, Store, new_job, new_jobs
from towline_broker.testing.transfers import fill


class UrlHarness(Harness):
    persists = True

    def __init__(self, url: str) -> None:
        self._url = url

    def driver(self) -> Driver:
        return create_driver(self._url)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = Store(UrlHarness(url))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def run(*arguments: str, code: int = 0, stdin: bytes | None = None) -> Result:
    """A command of towline-broker, which must end with this exit code."""
    result = CliRunner().invoke(app, arguments, input=stdin)
    assert result.exit_code == code, result.output
    return result


def jobs_in(file: Path) -> list[dict[str, Any]]:
    """The lines of jobs."""
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line["is"] == "job"]


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def export_of_everything(url: str, folder: Path) -> Path:
    """A store with a job of everything but LEASED, and its export."""

    async def fill_it() -> None:
        async with opened(url) as store:
            await fill(store)
            policy = RetryPolicy(7, DelayList((SECOND, HOUR)), 0.25)
            await store.create(
                *new_jobs(3, "other", priority=2, retry=policy),
                *new_jobs(2, "other"),
                new_job("other", priority=-1, expires_at=store.now + 100_000 * HOUR),
                new_job("paused", unique_key="held", due_at=store.now + HOUR),
            )
            await store.driver.set_paused("paused", True)

    asyncio.run(fill_it())
    file = folder / "jobs.jsonl"
    run("export", "--store", url, str(file))
    return file


def goes_in_and_comes_out(exported: Path, url: str) -> None:
    """Into the new store at the url, and out of it as it was; and that store is sound."""
    again = exported.with_name("again.jsonl")
    said = run("import", "--store", url, str(exported)).stderr
    assert f"imported {len(jobs_in(exported))} jobs" in said
    assert "imported 0 jobs" in run("import", "--store", url, str(exported)).stderr
    run("export", "--store", url, str(again))
    before, after = (file.read_text().splitlines() for file in (exported, again))
    # All but the header, which names the store, and the sum, which covers it.
    assert after[1:-1] == before[1:-1]
    assert len({job["state"] for job in jobs_in(again)}) == 5
    assert "is sound" in run("check", "--store", url).stderr
    asyncio.run(_seal("other", url))
    is_found_by_check(url, "queue other gives workers nothing until an import is finished")
    assert "opened other" in run("import", "--store", url, "--abandon").stderr


async def _seal(queue: str, url: str) -> None:
    async with opened(url) as store:
        await store.seal("import:0123456789abcdef", queue)


def is_found_by_check(url: str, *what: str) -> None:
    said = run("check", "--store", url, code=1).stdout
    for each in what:
        assert each in said
