"""``towline.contrib.django`` in a project: clients and worker by its settings, jobs of its apps,
and connections to databases that last no longer than a job."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.broker_process import BrokerProcess
from towline import Client, Registry, clients

pytest.importorskip("django")

from django.core.exceptions import (  # type: ignore[import-untyped]
    ImproperlyConfigured,
)
from django.core.management import (  # type: ignore[import-untyped]
    CommandError,
    call_command,
)
from django.test import override_settings  # type: ignore[import-untyped]

from tests.support.django_settings import configure
from towline.contrib.django.apps import check_clients
from towline.contrib.django.conf import client_options, worker_options
from towline.contrib.django.management.commands import towline_worker
from towline.contrib.django.management.commands.towline_worker import Command

SETTINGS = """
SECRET_KEY = "of a test"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "test.sqlite3"}}
INSTALLED_APPS = ["towline.contrib.django", "mails", "empty"]
"""

JOBS = """
import contextvars

from asgiref.sync import sync_to_async
from django.db import connection

from towline import job

language = contextvars.ContextVar("language", default="none")


class Language:
    def handle(self, job, context):
        token = language.set("Greek")
        yield
        language.reset(token)


def use_database():
    was_closed = connection.connection is None
    connection.ensure_connection()
    return was_closed


@job(queue="mails", retention=60)
def plain():
    return [use_database(), language.get()]


@job(queue="other", retention=60)
async def coroutine():
    return [await sync_to_async(use_database)(), language.get()]
"""


class Project(Protocol):
    def __call__(self, *arguments: str, settings: str = "") -> "subprocess.CompletedProcess[str]":
        """Runs a command of Django's with these further settings."""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "mails").mkdir()
    (tmp_path / "mails" / "jobs.py").write_text(JOBS, encoding="utf-8")
    (tmp_path / "empty").mkdir()

    def command(*arguments: str, settings: str = "") -> "subprocess.CompletedProcess[str]":
        (tmp_path / "project.py").write_text(f"{SETTINGS}{settings}\n", encoding="utf-8")
        return subprocess.run(
            [
                *(sys.executable, "-W", "error", "-m", "django", *arguments),
                *("--settings", "project", "--pythonpath", "."),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def clients_of(address: str) -> str:
    clients = {"default": {"address": "localhost:1"}, "mails": {"address": address}}
    return f"TOWLINE = {clients}"


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess("memory:") as broker:
        yield broker


def test_having_the_app_loads_no_grpc(project: Project) -> None:
    loaded = "import sys, mails.jobs; print('grpc' in sys.modules)"
    assert project("shell", "--verbosity", "0", "--command", loaded).stdout == "False\n"


@pytest.mark.parametrize("pool", ["thread", "async", "process"])
def test_jobs_of_apps_run_and_each_connects_anew(
    pool: str, project: Project, broker: BrokerProcess
) -> None:
    with Client(broker.address) as client:
        handles = [
            client.dispatch(job_type, {}, queue=queue, retention=60)
            for job_type, queue in [("plain", "mails"), ("coroutine", "other")] * 2
        ]
        options = {"middleware": ["mails.jobs.Language"], "concurrency": 8, "max_jobs": 4}
        ended = project(
            *("towline_worker", "--client", "mails", "--pool", pool, "--concurrency", "1"),
            settings=f"{clients_of(broker.address)}\nTOWLINE_WORKER = {options}",
        )
        assert ended.returncode == 0, ended.stderr
        assert [handle.result(timeout=1) for handle in handles] == [[True, "Greek"]] * 4
    assert ended.stderr.count("coroutine") == 2, "a line for each job"


def test_one_job_of_a_queue_can_be_run_in_silence(project: Project, broker: BrokerProcess) -> None:
    with Client(broker.address) as client:
        left = client.dispatch("plain", {}, queue="mails")
        taken = client.dispatch("coroutine", {}, queue="other")
        ended = project(
            *("towline_worker", "--client", "mails", "--once", "--queue", "other=3"),
            *("--verbosity", "0"),
            settings=clients_of(broker.address),
        )
        assert (ended.returncode, ended.stderr) == (0, "")
        assert (taken.status().state, left.status().state) == ("SUCCEEDED", "READY")
        left.cancel()


@pytest.fixture
def configured(tmp_path_factory: pytest.TempPathFactory) -> None:
    configure(tmp_path_factory)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"adress": "x"}, "TOWLINE['default']: Client.__init__() got an unexpected"),
        ({"address": 5}, "TOWLINE['default']: address: "),
    ],
)
def test_a_check_tells_of_clients_that_cannot_be_made(wrong: dict[str, Any], told: str) -> None:
    try:
        with override_settings(TOWLINE={"default": wrong}):
            clients.add("default", **wrong)
            [error] = check_clients()
        assert error.msg.startswith(told)
    finally:
        clients.add("default")


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"TOWLINE": ["localhost:7480"]}, "TOWLINE: expected a dict, got list"),
        ({"TOWLINE": {"a": "localhost:7480"}}, "TOWLINE['a']: expected a dict, got str"),
        ({"TOWLINE_WORKER": ["mails"]}, "TOWLINE_WORKER: expected a dict, got list"),
    ],
)
def test_settings_of_another_shape_are_told_by_name(wrong: dict[str, Any], told: str) -> None:
    read = client_options if "TOWLINE" in wrong else worker_options
    with override_settings(**wrong), pytest.raises(ImproperlyConfigured, match=re.escape(told)):
        read()


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("options", "arguments", "told"),
    [
        ({"treads": 4}, {}, "TOWLINE_WORKER: Worker.__init__() got an unexpected"),
        ({"pool": "x"}, {}, "pool: expected"),
        ({}, {"queues": ["a=1", "b"]}, "--queue: expected QUEUE=WEIGHT for each or for none"),
        ({}, {"client": "nobody"}, "--client: there is no client 'nobody' in the setting"),
    ],
)
def test_a_worker_that_cannot_be_made_says_why(
    options: dict[str, Any], arguments: dict[str, Any], told: str
) -> None:
    told = re.escape(told)
    with override_settings(TOWLINE_WORKER=options), pytest.raises(CommandError, match=told):
        call_command(Command(), **{"queues": ["mails"], **arguments})


@pytest.mark.usefixtures("configured")
def test_a_project_without_jobs_is_told_where_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(towline_worker, "default_registry", Registry())
    with pytest.raises(CommandError, match=r"write them in its jobs\.py"):
        call_command(Command())
