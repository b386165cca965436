"""examples/csv_import: when its worker is killed, another imports the rest, and no row twice."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.examples.processes import PATIENCE, copy_of, program, run_its_tests
from tests.support.broker_process import BrokerProcess
from towline import Client

ROWS = 6000
BAD = 50  # every so many

# The first attempt hangs where it hurts most: a batch is saved, and its checkpoint is not.
HANGING = """
import threading

from csv_import.jobs import ImportCustomers
from towline import current_job

import_batch = ImportCustomers.import_batch


def watched(self, batch, database, rejected, done):
    first_line = batch[0][0]
    import_batch(self, batch, database, rejected, done)
    if current_job().attempt == 1 and done.rows == 3000:
        (self.file.parent / "hangs").touch()
        threading.Event().wait()
    if current_job().attempt == 2:
        with (self.file.parent / "lines").open("a") as lines:
            print(first_line, file=lines)


ImportCustomers.import_batch = watched
"""


def test_its_own_tests_pass(tmp_path: Path) -> None:
    run_its_tests(copy_of("csv_import", tmp_path))


def test_an_import_survives_its_worker(tmp_path: Path) -> None:
    folder = copy_of("csv_import", tmp_path)
    (folder / "hanging.py").write_text(HANGING, encoding="utf-8")
    file, database = tmp_path / "customers.csv", tmp_path / "customers.db"
    bad_lines = write_customers(file)
    worker = ("towline.cli", "worker", "hanging", "--lease", "1s")
    with BrokerProcess("memory:") as broker, Client(broker.address) as client:
        data = {"file": str(file), "database": str(database)}
        handle = client.dispatch("ImportCustomers", data, queue="imports", retention=600)

        def part_is_known() -> bool:
            progress = handle.status().progress
            known = progress is not None and progress.message == "2800 rows"
            return known and (tmp_path / "hangs").exists()

        first, second = tmp_path / "first.log", tmp_path / "second.log"
        with program(*worker, folder=folder, log=first, TOWLINE_URL=broker.address) as killed:
            killed.wait_for(part_is_known, "half of it is imported")
            killed.kill()
        with program(*worker, folder=folder, log=second, TOWLINE_URL=broker.address):
            result = handle.result(timeout=PATIENCE)
        assert handle.status().attempt == 2
    lines = (tmp_path / "lines").read_text().splitlines()
    assert int(lines[0]) == 2802, "it goes on behind the last checkpoint"
    good = [number for number in range(ROWS) if number % BAD]
    with closing(sqlite3.connect(database)) as connection:
        numbers = connection.execute("SELECT number FROM customers ORDER BY number").fetchall()
    assert [number for (number,) in numbers] == good
    with file.with_suffix(".rejected.csv").open(newline="") as rejected:
        assert [(int(row[0]), row[1]) for row in csv.reader(rejected)] == [
            (line, "email is no address") for line in bad_lines
        ]
    counts = (result["rows"], result["imported"], result["rejected"])
    assert counts == (ROWS, len(good), len(bad_lines))


def write_customers(file: Path) -> list[int]:
    """Returns the lines that are bad."""
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["number", "name", "email"])
        for number in range(ROWS):
            writer.writerow([number, f"n{number}", "a@example.com" if number % BAD else "nowhere"])
    return [number + 2 for number in range(0, ROWS, BAD)]
