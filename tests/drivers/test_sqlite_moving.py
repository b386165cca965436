"""Moving a queue out of a SQLite store takes no longer the more jobs there are: each batch comes
from an index that has the jobs in their order."""

from pathlib import Path

import pytest

from tests.drivers.sqlite_support import opened, writing_connection
from tests.support.stores import push
from towline_broker.drivers.sql import moving
from towline_broker.testing.factories import new_jobs

INDEXES = {
    moving.OUTGOING_READY: "SEARCH j USING INDEX towline_jobs_ready (queue=?)",
    moving.OUTGOING_SCHEDULED: "SCAN j USING INDEX towline_jobs_due",
    moving.OUTGOING_DEAD: "SCAN j USING INDEX towline_jobs_dead",
    moving.OUTGOING_KEPT: "SEARCH j USING INDEX towline_jobs_kept (keep_until>?)",
}


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_batch_is_read_in_order_and_not_sorted(tmp_path: Path, analyzed: bool) -> None:
    async with opened(tmp_path / "jobs.db") as driver:
        await push(driver, *new_jobs(200))
        connection = writing_connection(driver)
        if analyzed:
            connection.execute("ANALYZE")
        for sql, index in INDEXES.items():
            rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1, 100)).fetchall()
            plan = [row[3] for row in rows]
            assert plan[0] == index
            assert not [step for step in plan if "TEMP B-TREE" in step]
