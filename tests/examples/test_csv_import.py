"""examples/csv_import: when its worker is killed, another imports the rest, and no row twice."""

import csv
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.examples.processes import PATIENCE, Program, copy_of, program, run_its_tests
from tests.support.broker_process import BrokerProcess
from towline import Client, JobHandle

ROWS = 60_000
BAD = 500  # every so many


def test_its_own_tests_pass(tmp_path: Path) -> None:
    run_its_tests(copy_of("csv_import", tmp_path))


def test_an_import_survives_its_worker(tmp_path: Path) -> None:
    folder = copy_of("csv_import", tmp_path)
    file, database = tmp_path / "customers.csv", tmp_path / "customers.db"
    bad_lines = write_customers(file)
    sqlite3.connect(database).close()
    with BrokerProcess("memory:") as broker, Client(broker.address) as client:
        data = {"file": str(file), "database": str(database)}
        handle = client.dispatch("ImportCustomers", data, queue="imports", retention=600)
        with worker(folder, tmp_path / "first.log", broker.address) as first:
            kill_in_the_middle(first, handle, database)
        with worker(folder, tmp_path / "second.log", broker.address):
            result = handle.result(timeout=PATIENCE)
        assert handle.status().attempt == 2
    with closing(sqlite3.connect(database)) as connection:
        numbers = [n for (n,) in connection.execute("SELECT number FROM customers ORDER BY 1")]
    assert numbers == [n for n in range(ROWS) if n % BAD]
    with file.with_suffix(".rejected.csv").open(newline="") as rejected:
        assert [(int(row[0]), row[1]) for row in csv.reader(rejected)] == [
            (line, "email is no address") for line in bad_lines
        ]
    assert (result["rows"], result["imported"]) == (ROWS, len(numbers))
    assert result["rejected"] == len(bad_lines)


@contextmanager
def worker(folder: Path, log: Path, address: str) -> Iterator[Program]:
    arguments = ("towline.cli", "worker", "csv_import.jobs", "--lease", "1s")
    with program(*arguments, folder=folder, log=log, TOWLINE_URL=address) as started:
        yield started


def write_customers(file: Path) -> list[int]:
    """Returns the lines that are bad."""
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["number", "name", "email"])
        for number in range(ROWS):
            writer.writerow([number, f"n{number}", "a@example.com" if number % BAD else "nowhere"])
    return [number + 2 for number in range(0, ROWS, BAD)]


def kill_in_the_middle(first: Program, handle: JobHandle, database: Path) -> None:
    """Kills it once the broker knows of a part, while it waits for a lock that the test holds."""

    def part_is_known() -> bool:
        progress = handle.status().progress
        return progress is not None and progress.fraction > 0

    first.wait_for(part_is_known, "a part is imported")
    with closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        (imported,) = connection.execute("SELECT count(*) FROM customers").fetchone()
        assert 0 < imported < ROWS - ROWS // BAD, "the test came too late"
        first.kill()
