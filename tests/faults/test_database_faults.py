"""P1 to P7, Stats: PostgreSQL and MariaDB that crash, restart, end sessions and give up
transactions under two brokers at work.

`make faults` does each of it many times; a plain test run a few of them once.
"""

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.habits import PLAIN
from tests.faults.stressed import Fault, stressed
from tests.support.database_faults import DatabaseFaults, MariaDBFaults, PostgresFaults
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import with_options

#: How often each thing happens; 0: a few of them, once.
ROUNDS = size("STORE_FAULTS", 0)
#: How long another program's transaction is open, in seconds.
IDLE = size("IDLE_SECONDS", 3)
#: A claim beside it may take so many times as long at its end as at its begin, and so much longer
#: for what else a machine has to do, in milliseconds.
FLAT, NOISE_MS = 2.0, 15.0
#: Parts of that time, of which each has its figure.
PARTS = 4 if IDLE < 60 else 10
#: Claims that such figures come from, at least.
LEAST_CLAIMS = 10 * PARTS
#: Seconds after which brokers give a statement up.
PATIENCE = 2
#: Sessions that were cut off keep their locks for a while. And what a claim has passed over because
#: another program had locked it, is looked for in a share of the time only, after seconds.
ASSUMPTIONS = Assumptions(locks=5.0, undone=0.5, order_slack=30.0)
#: COMMITs take some milliseconds, so that a session can be met in the middle of one.
SLOW_COMMITS = ("commit_delay=5000", "commit_siblings=0", "deadlock_timeout=50ms")
SLOW_BINLOG = ("log-bin", "sync_binlog=1", "binlog_commit_wait_count=50")
#: Microseconds.
BINLOG_WAIT = "binlog_commit_wait_usec=5000"


@contextmanager
def postgresql(chance: random.Random) -> Iterator[DatabaseFaults]:
    with PostgresServer(*SLOW_COMMITS, durable=True) as server:
        yield PostgresFaults(server, server.create_database(), chance)


@contextmanager
def mariadb(chance: random.Random) -> Iterator[DatabaseFaults]:
    with MariaDBServer(*SLOW_BINLOG, BINLOG_WAIT, durable=True) as server:
        yield MariaDBFaults(server, server.create_database(), chance)


DATABASES = {"postgresql": postgresql, "mariadb": mariadb}


def faults_of(database: DatabaseFaults) -> Mapping[str, Fault]:
    faults: dict[str, Fault] = {
        "kill -9": database.crash,
        "restart": database.restart,
        "sessions ended": database.end_sessions,
        "sessions ended in mid-COMMIT": database.end_commits,
        "transactions given up": partial(given_up, database),
        "deadlocks": database.deadlock,
        "disk full": partial(be_full, database),
        "jobs locked for longer than a statement may take": partial(
            database.lock_for, PATIENCE + 1.0
        ),
    }
    if isinstance(database, PostgresFaults):
        faults["immediate shutdown"] = database.restart_at_once
    return faults


def given_up(database: DatabaseFaults) -> None:
    with database.give_up(0.2):
        time.sleep(1.0)


def be_full(database: DatabaseFaults) -> None:
    with database.full():
        time.sleep(0.5)


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.timeout(180 + 40 * ROUNDS)
def test_every_promise_is_kept_whatever_happens_to_the_database(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with DATABASES[kind](random.Random(seed())) as database:
        url = with_options(database.url, f"timeout={PATIENCE}")
        with stressed(url, tmp_path) as stress:
            stress.suffer(faults_of(database), ROUNDS)
            verdict = stress.load.finish(assumptions=ASSUMPTIONS)
    figures.prove(
        f"faults of {kind}",
        verdict,
        faults=dict(stress.made),
        sessions_ended=database.ended,
        deadlocks=database.deadlocks,
    )


@pytest.mark.parametrize("kind", DATABASES if IDLE > 60 else ["postgresql"])
@pytest.mark.timeout(180 + 2 * IDLE)
def test_claims_stay_as_fast_as_they_are_while_another_program_holds_a_transaction_open(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with DATABASES[kind](random.Random(seed())) as database:
        habits = replace(PLAIN, pause=0.1)
        with stressed(database.url, tmp_path, habits=habits, workers=2) as stress:
            begin = time.monotonic()
            with database.idle_transaction():
                # A busy machine needs longer for as many claims as a figure asks for.
                stress.load.wait_for_acknowledged(LEAST_CLAIMS * habits.reserve_batch)
                time.sleep(max(0.0, begin + IDLE - time.monotonic()))
            end = time.monotonic()
            verdict = stress.load.finish(assumptions=ASSUMPTIONS)
    took = [
        (call.returned - call.called) * 1000
        for call in sorted(verdict.history.calls, key=lambda call: call.called)
        if call.rpc == "Reserve"
        and begin <= call.called < end
        # One that had to wait for jobs found fewer.
        and len(call.items) == habits.reserve_batch
    ]
    assert len(took) >= PARTS
    parts = [
        took[len(took) * part // PARTS : len(took) * (part + 1) // PARTS] for part in range(PARTS)
    ]
    medians = [round(statistics.median(part), 1) for part in parts]
    figures.prove(
        f"a transaction of another program open for {IDLE} s, {kind}",
        verdict,
        median_claim_ms=medians,
        claims=len(took),
    )
    assert medians[-1] < FLAT * medians[0] + NOISE_MS
