"""The code in the pages about jobs and dispatching does what they say."""

from pathlib import Path

from tests.support.broker_process import BrokerProcess
from tests.support.pages import run_page


def test_the_page_about_jobs_runs(tmp_path: Path) -> None:
    with BrokerProcess("memory:") as server:
        run_page("jobs.md", server.address, tmp_path, queues=["default"])


def test_the_page_about_dispatching_runs(tmp_path: Path) -> None:
    with BrokerProcess("memory:") as server:
        run_page("dispatch.md", server.address, tmp_path, queues=["emails", "reports"])
