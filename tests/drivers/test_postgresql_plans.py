"""PostgreSQL: every statement of a hot path goes by the index that was made for it, whatever the
statistics say."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.databases import opened
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import ack, push, reserve, with_options
from towline_broker.domain.jobs import DeadReason, Settlement
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import NackBatch, NackItem
from towline_broker.drivers.sql import acks, claims, pushes, queues, settles, targets, upkeep
from towline_broker.drivers.sql.postgresql import hot
from towline_broker.drivers.sql.postgresql.session import PostgresSession
from towline_broker.drivers.sql.postgresql.statements import for_many, numbered
from towline_broker.drivers.sql.shared.driver import SharedSqlDriver
from towline_broker.drivers.sql.shared.transaction import OF_LINE, OF_QUEUE
from towline_broker.testing.factories import START, new_jobs

_SKIP = " FOR UPDATE SKIP LOCKED"
#: Each statement, and the indexes that its plan goes by.
PLANS = {
    "reserve from a line": (claims.CANDIDATE + OF_LINE + _SKIP, {"towline_jobs_ready"}),
    "reserve from a queue": (claims.CANDIDATE + OF_QUEUE + _SKIP, {"towline_jobs_ready"}),
    "repeated reserve": (claims.OF_REQUEST, {"towline_jobs_request"}),
    "head of a line": (queues.HEAD_OF_LINE, {"towline_jobs_ready"}),
    "known ids": (pushes._KNOWN, {"towline_jobs_id", "towline_settled_pkey"}),
    "ack": (acks.HELD + " FOR UPDATE", {"towline_jobs_id"}),
    "settle": (targets.LEASED_BY_ID + " FOR UPDATE", {"towline_jobs_id"}),
    "settle again": (settles.SETTLEMENTS, {"towline_settled_pkey"}),
    "lease": (claims._LEASE, {"towline_jobs_pkey"}),
    "remove": (targets._REMOVE, {"towline_jobs_pkey"}),
    "promote": (upkeep.DUE + _SKIP, {"towline_jobs_due"}),
    "expire": (upkeep.TOO_OLD + _SKIP, {"towline_jobs_expiry"}),
    "leases past their deadline": (claims.LEASES_PAST, {"towline_jobs_deadline"}),
    "forget jobs": (upkeep.PAST_RETENTION + _SKIP, {"towline_jobs_kept"}),
    "forget leases": (upkeep.PAST_MEMORY + _SKIP, {"towline_settled_until"}),
    "forget keys": (upkeep.PAST_KEYS + _SKIP, {"towline_unique_keys_until"}),
    "purge": (queues.SCHEDULED_OF_QUEUE + _SKIP, {"towline_jobs_scheduled"}),
    "next scheduled": (upkeep.NEXT_TIMES["due"], {"towline_jobs_due"}),
    "next deadline": (upkeep.NEXT_TIMES["leases"], {"towline_jobs_deadline"}),
    "next expiry": (upkeep.NEXT_TIMES["expiry"], {"towline_jobs_expiry"}),
}
#: The same for calls that are joined.
HOT = {
    "joined pushes": (hot.INSERT_IN_ORDER, set[str]()),
    "envelopes of joined pushes": (hot.FILL, {"towline_settled_pkey"}),
    "claim": (
        hot.CLAIM,
        {"towline_jobs_ready", "towline_jobs_request", "towline_jobs_pkey"},
    ),
    "joined claims": (
        hot.CLAIM_EACH,
        {"towline_jobs_ready", "towline_jobs_request", "towline_jobs_pkey"},
    ),
    "joined acks": (hot.FINISH, {"towline_jobs_id"}),
    "joined acks of several grants": (hot.FINISH_SEVERAL, {"towline_jobs_id"}),
}
#: The same for statements of which one is made for many rows.
MANY = {
    "end leases": (settles._END_LEASE, {"towline_jobs_pkey"}),
    "extend leases": (settles._EXTEND, {"towline_jobs_pkey"}),
    "promote jobs": (upkeep._PROMOTE, {"towline_jobs_pkey"}),
    "forget memories": (upkeep._FORGET_MEMORY, {"towline_settled_pkey"}),
}


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    return with_options(postgres_server.create_database(), "lanes=1")


@pytest.fixture(params=["never analyzed", "analyzed empty", "analyzed full"])
async def session(url: str, request: pytest.FixtureRequest) -> AsyncIterator[PostgresSession]:
    """Over jobs of every state, with what the planner may have been told of them."""
    async with opened(url) as driver:
        lane = await _lane(driver)
        if request.param == "analyzed empty":
            await lane._connection.execute("ANALYZE")
        await push(driver, *new_jobs(600, retention=HOUR, expires_at=START + HOUR))
        await push(driver, *new_jobs(300, due_at=START + HOUR))
        await ack(driver, await reserve(driver, 100))
        dying = await reserve(driver, 100)
        nacks = [
            NackItem(one.ref, Settlement.DEAD_LETTERED, dead_reason=DeadReason.REJECTED)
            for one in dying
        ]
        await driver.nack(NackBatch(nacks, START, START + HOUR))
        await reserve(driver, 100)
        if request.param == "analyzed full":
            await lane._connection.execute("ANALYZE")
        yield lane


async def _lane(driver: SharedSqlDriver) -> PostgresSession:
    assert driver._opened is not None
    session = await driver._opened.lanes._links[0].session(0)
    assert isinstance(session, PostgresSession)
    return session


async def test_hot_statements_go_by_their_indexes(session: PostgresSession) -> None:
    for what, (sql, indexes) in PLANS.items():
        await _check(session, what, numbered(sql), indexes)
    for what, (sql, indexes) in HOT.items():
        await _check(session, what, sql, indexes)
    for what, (sql, indexes) in MANY.items():
        text = for_many(sql, await session._types(sql))
        await _check(session, what, text, indexes)


async def _check(session: PostgresSession, what: str, text: str, indexes: set[str]) -> None:
    connection = session._connection
    await connection.execute(f"PREPARE shown AS {text}")
    parameters = len((await connection.prepare(text)).get_parameters())
    nothing = ", ".join(["NULL"] * parameters)
    rows = await connection.fetch(f"EXPLAIN EXECUTE shown({nothing})")
    await connection.execute("DEALLOCATE shown")
    plan = "\n".join(row[0] for row in rows)
    assert _indexes(plan) == indexes, f"{what}:\n{plan}"
    for slow in ("Seq Scan", "Bitmap", "Hash Join", "Merge Join"):
        assert slow not in plan, f"{what}:\n{plan}"


def _indexes(plan: str) -> set[str]:
    """Of jobs, the settle memory and the unique keys; small tables aside."""
    found: set[Any] = set()
    for line in plan.splitlines():
        if "using " in line:
            name = line.partition("using ")[2].split()[0]
            if name.startswith(("towline_jobs", "towline_settled", "towline_unique")):
                found.add(name)
    return found
