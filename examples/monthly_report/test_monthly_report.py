from datetime import UTC, datetime
from pathlib import Path

import pytest

from towline import JobState
from towline.testing import Harness, InlineWorker

from . import jobs
from .jobs import CleanUp, MonthlyReport


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(jobs, "FOLDER", tmp_path / "reports")
    return tmp_path / "reports"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("after", "planned"),
    [
        ("2026-01-15 12:00", "2026-02-01 05:00"),  # six in Berlin, in winter
        ("2026-03-15 12:00", "2026-04-01 04:00"),  # and in summer
        ("2026-04-01 03:59", "2026-04-01 04:00"),
        ("2026-04-01 04:00", "2026-05-01 04:00"),
        ("2026-12-31 12:00", "2027-01-01 05:00"),
    ],
)
def test_the_next_run_is_by_the_clock_of_its_zone(
    after: str, planned: str, towline: Harness
) -> None:
    MonthlyReport.dispatch_next(at(after))

    towline.assert_dispatched(MonthlyReport, planned=at(planned))


def test_each_month_has_its_report(
    folder: Path, towline: Harness, towline_worker: InlineWorker
) -> None:
    MonthlyReport.dispatch_next(at("2026-01-15 12:00"))
    for _ in range(3):
        towline.travel_to_next()
        towline_worker.run_one()

    reports = ["2026-01.txt", "2026-02.txt", "2026-03.txt"]
    assert sorted(file.name for file in folder.iterdir()) == reports
    assert towline.pending("reports") == 1


def test_however_often_it_is_started_one_stands_in_line(towline: Harness) -> None:
    handles = [CleanUp.start() for _ in range(3)]

    assert {handle.id for handle in handles} == {handles[0].id}
    assert [handle.created for handle in handles] == [True, False, False]
    assert towline.pending() == 1


def test_a_run_that_fails_for_good_breaks_no_chain(
    towline: Harness, towline_worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: CleanUp) -> int:
        raise OSError("the disk is gone")

    monkeypatch.setattr(CleanUp, "run", fail)
    failing = CleanUp.start()
    towline.travel_to_next()
    while failing.status().state is not JobState.DEAD:
        towline_worker.run_one(check=False)
        if failing.status().state is JobState.SCHEDULED:
            towline.travel_to_next()

    assert len(towline.dead) == 1
    assert towline.pending("reports") == 1
    towline.assert_dispatched(CleanUp, times=2)
