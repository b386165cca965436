import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from towline.testing import Harness, InlineWorker

from . import jobs
from .jobs import ImportCustomers

ROWS = """\
number,name,email
1,Ann,ann@example.com
2,,bob@example.com
3,"Cy, the third",cy@example.com
four,Dee,dee@example.com
5,Eve
6,Fay,fay@example.com
"""

REJECTED = [
    "3,name is empty,2,,bob@example.com",
    "5,number is not a whole number,four,Dee,dee@example.com",
    '6,"expected 3 columns, got 2",5,Eve',
]


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImportCustomers:
    monkeypatch.setattr(jobs, "BATCH", 2)
    (tmp_path / "customers.csv").write_text(ROWS, encoding="utf-8")
    return ImportCustomers(file=tmp_path / "customers.csv", database=tmp_path / "customers.db")


def names(job: ImportCustomers) -> list[str]:
    with closing(sqlite3.connect(job.database)) as database:
        return [name for (name,) in database.execute("SELECT name FROM customers ORDER BY number")]


def test_good_rows_are_imported_and_bad_ones_are_listed(
    job: ImportCustomers, towline: Harness, towline_worker: InlineWorker
) -> None:
    handle = job.dispatch()
    towline_worker.run_all()

    assert names(job) == ["Ann", "Cy, the third", "Fay"]
    assert job.rejected_file.read_text(encoding="utf-8").splitlines() == REJECTED
    done = handle.result(into=jobs.Done)
    assert (done.rows, done.imported, done.rejected) == (6, 3, 3)
    progress = handle.status().progress
    assert progress is not None
    assert (progress.fraction, progress.message) == (1.0, "6 rows")


@pytest.mark.parametrize("stage", ["before the batch is saved", "after it"])
def test_a_retry_goes_on_where_the_last_attempt_stopped(
    stage: str,
    job: ImportCustomers,
    towline: Harness,
    towline_worker: InlineWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    import_batch = ImportCustomers.import_batch

    def failing(self: ImportCustomers, batch: list[tuple[int, list[str]]], *rest: object) -> None:
        calls.append(batch[0][0])
        if stage == "after it" or len(calls) != 2:
            import_batch(self, batch, *rest)  # type: ignore[arg-type]
        if len(calls) == 2:
            raise ConnectionError

    monkeypatch.setattr(ImportCustomers, "import_batch", failing)
    handle = job.dispatch()
    towline_worker.run_all(delayed=True)

    assert calls == [2, 4, 4, 6], "lines at which batches began"
    assert names(job) == ["Ann", "Cy, the third", "Fay"]
    assert job.rejected_file.read_text(encoding="utf-8").splitlines() == REJECTED
    assert handle.result()["imported"] == 3


def test_a_file_with_other_columns_is_rejected_at_once(
    job: ImportCustomers, towline: Harness, towline_worker: InlineWorker
) -> None:
    job.file.write_text("name,number\nAnn,1\n", encoding="utf-8")
    job.dispatch()
    towline_worker.run_all(check=False)

    [dead] = towline.dead
    assert dead.failure is not None
    assert dead.failure.message == "expected the columns number, name, email, got name, number"
