"""What goes wrong in a database that brokers share, made to happen on purpose while they use it.

Over PostgreSQL and MariaDB the same things happen, by other statements. They happen to brokers in
processes of their own, so these calls may block; a driver on the loop of a test has databases.py.
"""

import random
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeAlias

import psycopg
import pymysql  # type: ignore[import-untyped]

from tests.support.servers.mariadb import MariaDBServer, login_of
from tests.support.servers.postgres import PostgresServer

#: Runs a statement over a connection of another program and returns its rows.
Execute: TypeAlias = Callable[[str], Sequence[Sequence[Any]]]
#: How many rows another program locks one by one.
_ROWS = 12
#: How often a statement is tried for which brokers have to stand still.
_TRIES = 50


class DatabaseFaults(ABC):
    """Each method returns once the fault is over; with those that give a context, the fault lasts
    as long as the context."""

    #: In a transaction of this program: of two in a deadlock, the other one is given up.
    _wins_deadlocks: str

    def __init__(
        self, server: PostgresServer | MariaDBServer, url: str, chance: random.Random
    ) -> None:
        """``url``: of the store's database."""
        self.server = server
        self.url = url
        self.chance = chance
        #: Sessions that were ended so far.
        self.ended = 0
        #: Deadlocks that were found so far, each at the cost of a broker's transaction.
        self.deadlocks = 0

    # --- of the server ---

    def crash(self) -> None:
        """kill -9, and a start."""
        self.server.kill()
        self.server.start()

    def restart(self) -> None:
        """In good order, as fast as that goes: open sessions are ended."""
        self.server.stop()
        self.server.start()

    # --- of sessions ---

    def end_sessions(self, times: int = 10, pause: float = 0.05) -> None:
        """Of the brokers' sessions half are ended at a time, whatever they are at."""
        with self.program() as execute:
            for _ in range(times):
                open_ = self._sessions(execute, committing=False)
                self._end(execute, [one for one in open_ if self.chance.random() < 0.5])
                time.sleep(pause)

    def end_commits(self, seconds: float = 1.0) -> None:
        """For so long, every session is ended that is found in the middle of its COMMIT."""
        until = time.monotonic() + seconds
        with self.program() as execute:
            while time.monotonic() < until:
                self._end(execute, self._sessions(execute, committing=True))

    # --- of transactions ---

    def deadlock(self, times: int = 10) -> None:
        """Another program locks jobs one by one, in another order than brokers do."""
        before = self._deadlocks()
        for _ in range(times):
            with self.program() as execute:
                rows = execute(f"SELECT id FROM towline_jobs ORDER BY id DESC LIMIT {_ROWS}")
                with suppress(psycopg.Error, pymysql.Error):
                    execute("BEGIN")
                    execute(self._wins_deadlocks)
                    for (job_id,) in rows:
                        execute(f"SELECT 1 FROM towline_jobs WHERE id = '{job_id}' FOR UPDATE")
                        time.sleep(0.01)
                    execute("ROLLBACK")
        self.deadlocks += self._deadlocks() - before

    @contextmanager
    def idle_transaction(self) -> Iterator[None]:
        """Another program has a transaction open that has seen the jobs, and does nothing."""
        with self.program() as execute:
            self._begin(execute)
            execute("SELECT count(*) FROM towline_jobs")
            yield
            execute("ROLLBACK")

    def lock_for(self, seconds: float) -> None:
        """Another program has locked the jobs that are there."""
        with self.program() as execute:
            execute("BEGIN")
            execute("SELECT id FROM towline_jobs FOR UPDATE")
            time.sleep(seconds)
            execute("ROLLBACK")

    def _insist(self, sql: str) -> None:
        """Until it is not given up for the brokers any more."""
        for _ in range(_TRIES):
            with self.program() as execute, suppress(psycopg.Error, pymysql.Error):
                execute(sql)
                return
            time.sleep(0.05)
        raise AssertionError(f"not possible: {sql}")

    # --- what is different from one to the other ---

    @abstractmethod
    def program(self) -> AbstractContextManager[Execute]:
        """Another program, connected to the database."""

    @abstractmethod
    def _sessions(self, execute: Execute, *, committing: bool) -> list[int]:
        """Of the brokers; those only that are at their COMMIT, or all."""

    @abstractmethod
    def _end(self, execute: Execute, sessions: Sequence[int]) -> None:
        """Some may have ended by themselves."""

    @abstractmethod
    def _begin(self, execute: Execute) -> None:
        """A transaction that goes on seeing what it has seen."""

    @abstractmethod
    def give_up(self, share: float) -> AbstractContextManager[None]:
        """The database gives up so many of the transactions that change jobs, as it does if others
        are in their way."""

    @abstractmethod
    def full(self) -> AbstractContextManager[None]:
        """The database says that its disk has no room for payloads."""

    @abstractmethod
    def _deadlocks(self) -> int:
        """That the server has found since it started."""


class PostgresFaults(DatabaseFaults):
    # Whoever notices first gives up.
    _wins_deadlocks = "SET LOCAL deadlock_timeout = '30s'"

    @contextmanager
    def program(self) -> Iterator[Execute]:
        with psycopg.connect(self.url.partition("?")[0], autocommit=True) as connection:

            def execute(sql: str) -> Sequence[Sequence[Any]]:
                cursor = connection.execute(sql.encode())
                return cursor.fetchall() if cursor.description else []

            yield execute

    def restart_at_once(self) -> None:
        """Immediate shutdown: as a crash, but that the server ends its sessions itself."""
        usual = self.server.stop_signal
        self.server.stop_signal = signal.SIGQUIT
        try:
            self.restart()
        finally:
            self.server.stop_signal = usual

    def _sessions(self, execute: Execute, *, committing: bool) -> list[int]:
        condition = " AND state = 'active' AND query = 'COMMIT'" if committing else ""
        rows = execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND"
            f" datname = current_database() AND pid <> pg_backend_pid(){condition}"
        )
        return [pid for (pid,) in rows]

    def _end(self, execute: Execute, sessions: Sequence[int]) -> None:
        for pid in sessions:
            [(ended,)] = execute(f"SELECT pg_terminate_backend({pid})")
            self.ended += ended

    def _begin(self, execute: Execute) -> None:
        execute("BEGIN ISOLATION LEVEL REPEATABLE READ")

    @contextmanager
    def give_up(self, share: float) -> Iterator[None]:
        self._insist(_POSTGRES_GIVES_UP.format(share=share))
        try:
            yield
        finally:
            self._insist("DROP FUNCTION give_up() CASCADE")

    @contextmanager
    def full(self) -> Iterator[None]:
        self._insist(_POSTGRES_IS_FULL)
        try:
            yield
        finally:
            self._insist("DROP FUNCTION no_room() CASCADE")

    def _deadlocks(self) -> int:
        with self.program() as execute:
            [(count,)] = execute("SELECT sum(deadlocks)::bigint FROM pg_stat_database")
        return int(count)


class MariaDBFaults(DatabaseFaults):
    # The transaction that has changed less is given up.
    _wins_deadlocks = "INSERT INTO towline_ticks (id) SELECT seq FROM seq_1000_to_1500"

    @contextmanager
    def program(self) -> Iterator[Execute]:
        connection = pymysql.connect(**login_of(self.url), autocommit=True)

        def execute(sql: str) -> Sequence[Sequence[Any]]:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                rows: Sequence[Sequence[Any]] = cursor.fetchall()
                return rows

        with connection:
            yield execute

    def _sessions(self, execute: Execute, *, committing: bool) -> list[int]:
        condition = " AND info = 'COMMIT'" if committing else ""
        rows = execute(
            "SELECT id FROM information_schema.PROCESSLIST WHERE db = DATABASE() AND"
            f" id <> CONNECTION_ID(){condition}"
        )
        return [number for (number,) in rows]

    def _end(self, execute: Execute, sessions: Sequence[int]) -> None:
        for number in sessions:
            with suppress(pymysql.Error):
                execute(f"KILL CONNECTION {number}")
                self.ended += 1

    def _begin(self, execute: Execute) -> None:
        execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        execute("BEGIN")

    @contextmanager
    def give_up(self, share: float) -> Iterator[None]:
        for event in ("INSERT", "UPDATE", "DELETE"):
            self._insist(_MARIADB_GIVES_UP.format(event=event, share=share))
        try:
            yield
        finally:
            for event in ("INSERT", "UPDATE", "DELETE"):
                self._insist(f"DROP TRIGGER give_up_{event}")

    @contextmanager
    def full(self) -> Iterator[None]:
        self._insist(_MARIADB_IS_FULL)
        try:
            yield
        finally:
            self._insist("DROP TRIGGER no_room")

    def _deadlocks(self) -> int:
        with self.program() as execute:
            [(_, count)] = execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        return int(count)


#: At the statement, and at the COMMIT.
_POSTGRES_GIVES_UP = """
CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF random() < {share} THEN
    RAISE EXCEPTION 'on purpose'
    USING ERRCODE = (ARRAY['40001', '40P01'])[1 + floor(random() * 2)::int];
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER give_up AFTER INSERT OR UPDATE OR DELETE ON towline_jobs
  FOR EACH STATEMENT EXECUTE FUNCTION give_up();
CREATE CONSTRAINT TRIGGER give_up_at_commit AFTER INSERT OR UPDATE OR DELETE ON towline_counters
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION give_up()
"""
#: For each row, so more seldom.
_MARIADB_GIVES_UP = """
CREATE TRIGGER give_up_{event} BEFORE {event} ON towline_jobs FOR EACH ROW
BEGIN
  IF RAND() < {share} / 10 THEN
    IF RAND() < 0.5 THEN
      SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'on purpose';
    ELSE
      SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205, MESSAGE_TEXT = 'on purpose';
    END IF;
  END IF;
END
"""
_POSTGRES_IS_FULL = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER no_room BEFORE INSERT ON towline_envelopes
  FOR EACH STATEMENT EXECUTE FUNCTION no_room()
"""
_MARIADB_IS_FULL = """
CREATE TRIGGER no_room BEFORE INSERT ON towline_envelopes FOR EACH ROW
  SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'on purpose'
"""
