"""examples/monthly_report: a run whose worker is killed leaves one next run in line."""

from pathlib import Path

from tests.examples.processes import PATIENCE, copy_of, program, run, run_its_tests
from tests.support.broker_process import BrokerProcess
from towline import Client

CRASHING = """
import os
import signal

from towline import current_job

from monthly_report.recurring import Recurring


class Yearly(Recurring):
    queue = "reports"
    cron = "0 0 1 1 *"

    def run(self):
        if current_job().attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"
"""


def test_its_own_tests_pass(tmp_path: Path) -> None:
    run_its_tests(copy_of("monthly_report", tmp_path))


def test_a_killed_worker_breaks_no_chain_and_begins_no_second_one(tmp_path: Path) -> None:
    folder = copy_of("monthly_report", tmp_path)
    (folder / "crashing.py").write_text(CRASHING, encoding="utf-8")
    worker = ("towline.cli", "worker", "crashing", "--lease", "1s")
    with BrokerProcess("memory:") as broker, Client(broker.address) as client:
        data = {"planned": "2026-01-01T00:00:00Z"}
        first = client.dispatch("Yearly", data, queue="reports", retention=60)
        with program(
            *worker, folder=folder, log=tmp_path / "first.log", TOWLINE_URL=broker.address
        ) as killed:
            killed.wait_until_it_is_killed()
        assert client.stats("reports").total.scheduled == 1
        with program(
            *worker, folder=folder, log=tmp_path / "second.log", TOWLINE_URL=broker.address
        ):
            assert first.result(timeout=PATIENCE) == "done"
        assert first.status().attempt == 2
        figures = client.stats("reports").total
        assert (figures.scheduled, figures.ready, figures.pushed) == (1, 0, 2)


def test_starting_it_at_each_deployment_leaves_one_of_each(tmp_path: Path) -> None:
    folder = copy_of("monthly_report", tmp_path)
    with BrokerProcess("memory:") as broker, Client(broker.address) as client:
        for _ in range(2):
            run("monthly_report.jobs", folder=folder, TOWLINE_URL=broker.address)
        assert client.stats("reports").total.scheduled == 2
        assert sorted(client.stats("reports").types) == ["CleanUp", "MonthlyReport"]
