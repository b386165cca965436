"""P1 to P7, Stats: PostgreSQL and MariaDB that crash, restart, end sessions and give up
transactions under two brokers at work.

`make store-faults` does each of it many times; a plain test run once.
"""

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness.figures import Figures, seed, size
from tests.faults.places import Place
from tests.faults.stressed import Fault, stressed
from tests.support.database_faults import DatabaseFaults, MariaDBFaults, PostgresFaults
from tests.support.servers.mariadb import MariaDBServer
from tests.support.servers.postgres import PostgresServer
from tests.support.stores import with_options

#: How often each thing happens.
ROUNDS = size("STORE_FAULTS", 1)
#: Seconds after which brokers give a statement up.
PATIENCE = 2
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
    return {
        "kill -9": database.crash,
        "restart": database.restart,
        "sessions ended": database.end_sessions,
        "sessions ended in mid-COMMIT": database.end_commits,
        "transactions given up": partial(given_up, database),
        "deadlocks": database.deadlock,
        "jobs locked for longer than a statement may take": partial(
            database.lock_for, PATIENCE + 1.0
        ),
    }


def given_up(database: DatabaseFaults) -> None:
    with database.give_up(0.2):
        time.sleep(1.0)


@pytest.mark.parametrize("kind", DATABASES)
@pytest.mark.timeout(180 + 40 * ROUNDS)
def test_every_promise_is_kept_whatever_happens_to_the_database(
    kind: str, tmp_path: Path, figures: Figures
) -> None:
    with DATABASES[kind](random.Random(seed())) as database:
        url = with_options(database.url, f"timeout={PATIENCE}")
        with stressed(url, tmp_path) as stress:
            stress.suffer(faults_of(database), ROUNDS)
            verdict = stress.load.finish(assumptions=Place(url).shared)
    figures.prove(
        f"faults of {kind}",
        verdict,
        faults=dict(stress.made),
        sessions_ended=database.ended,
        deadlocks=database.deadlocks,
    )
