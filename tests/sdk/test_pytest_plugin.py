"""The pytest plugin in a run of pytest of its own, as in the suite of an application.

The files of that application are those that docs/testing.md shows.
"""

import importlib.util
from collections.abc import Callable

import pytest

from tests.support.pages import blocks, blocks_of

pytest_plugins = "pytester"

PAGE = "docs/testing.md"
#: Each block of code names its file in its first line.
FILES = {
    block.text.partition("\n")[0].removeprefix("# "): block.text.partition("\n")[2]
    for block in blocks_of(PAGE)
    if block.language != "text"
}
#: What a file of the page needs that is not a part of every development environment.
NEEDS = {"app/web.py": "fastapi", "tests/test_fastapi.py": "fastapi"}

Application = Callable[..., pytest.Pytester]


@pytest.fixture
def application(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Application:
    """Makes an application of files of the page, and of others by their path and content."""
    for name in ("TOWLINE_URL", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)

    def make(*pages: str, **others: str) -> pytest.Pytester:
        files = {name: FILES[name] for name in ("app/jobs.py", "app/accounts.py", *pages)}
        files |= {f"tests/{name}.py": content for name, content in others.items()}
        for name, content in files.items():
            path = pytester.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return pytester

    return make


def run(suite: pytest.Pytester, *options: str, plugins: str = "no:asyncio") -> pytest.RunResult:
    """Run pytest in a process of its own; every warning is an error."""
    settings = suite.path / "pyproject.toml"
    text = settings.read_text("utf-8") if settings.exists() else "[tool.pytest.ini_options]\n"
    if "pythonpath" not in text:
        settings.write_text(f'{text}pythonpath = ["."]\n', encoding="utf-8")
    fixed = ("-p", "no:randomly", "-p", plugins, "-W", "error", "--strict-config")
    return suite.runpytest_subprocess(*fixed, "-c", settings, *options, timeout=100)


def test_the_page_tells_the_truth(application: Application) -> None:
    missing = [name for name, module in NEEDS.items() if not importlib.util.find_spec(module)]
    pages = [name for name in FILES if name not in missing and "django" not in name]
    suite = application(*pages)

    # What FastAPI's own test client warns of is no business of ours.
    outcomes = run(suite, "-W", "ignore:::fastapi.testclient").parseoutcomes()

    tests = sum(FILES[name].count("def test_") for name in pages)
    assert outcomes == {"passed": tests}


@pytest.mark.skipif(not importlib.util.find_spec("django"), reason="needs Django")
def test_the_page_tells_the_truth_of_django(application: Application) -> None:
    suite = application(
        "tests/test_django.py",
        conftest="""
import django
from django.conf import settings

settings.configure(
    ROOT_URLCONF="app.urls",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
""",
    )
    (suite.path / "app" / "urls.py").write_text(
        """
from functools import partial

from django.db import transaction
from django.http import HttpResponse
from django.urls import path

from app.accounts import sign_up


def view(request):
    transaction.on_commit(partial(sign_up, request.POST["address"]))
    return HttpResponse(status=202)


urlpatterns = [path("sign-up/", view)]
""",
        encoding="utf-8",
    )
    assert run(suite).parseoutcomes() == {"passed": 1}


def test_a_failed_assertion_shows_what_was_dispatched(application: Application) -> None:
    suite = application(
        test_it="""
from app.accounts import sign_up
from app.jobs import SendWelcome


def test_it(towline):
    sign_up("ada@example.org")
    towline.assert_dispatched(SendWelcome, to="eve@example.org", delay=10)
"""
    )
    result = run(suite)

    assert result.parseoutcomes() == {"failed": 1}
    (shown,) = blocks(PAGE, "text")
    result.stdout.fnmatch_lines([f"E *{line.strip()}" for line in shown.splitlines()])


def test_a_job_that_fails_shows_its_own_trace(application: Application) -> None:
    suite = application(
        test_it="""
from app.jobs import SendWelcome


def test_it(towline, towline_worker):
    SendWelcome(to="nobody").dispatch()
    towline_worker.run_all()
"""
    )
    result = run(suite)

    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*app*jobs.py:*: ValueError",
            "E *JobsFailed: 1 job failed:",
            "E *SendWelcome(to='nobody', name=''), attempt 1, retried: ValueError: that is no *",
        ]
    )


ISOLATED = """
import os

import pytest

from app.accounts import sign_up
from app.jobs import SendWelcome
from towline import Client

of_a_module = Client("memory://")


@pytest.mark.parametrize("n", range(8))
def test_it(towline, towline_worker, n):
    assert (towline.dispatched, towline.queues()) == ([], [])
    sign_up("ada@example.org")
    of_a_module.dispatch(SendWelcome(to="bob@example.org"))
    assert len(towline.dispatched) == 2
    assert len(towline_worker.run_all()) == 1
    towline.travel(days=1)


def test_without_the_fixture():
    assert "TOWLINE_URL" not in os.environ
"""


def test_each_test_finds_its_broker_empty_in_any_number_of_processes(
    application: Application,
) -> None:
    suite = application(test_it=ISOLATED)

    assert run(suite).parseoutcomes() == {"passed": 9}
    assert run(suite, "-n", "2").parseoutcomes() == {"passed": 9}


def test_tests_of_pytest_asyncio_are_served(application: Application) -> None:
    suite = application(
        test_it="""
import asyncio

import pytest

from app.jobs import SendWelcome
from towline import AsyncClient, job

loops = []


@job
async def which_loop():
    loops.append(asyncio.get_running_loop())


@pytest.mark.asyncio
@pytest.mark.parametrize("n", range(3))
async def test_it(towline, towline_worker, n):
    handle = await towline.async_client.dispatch(which_loop)
    async with AsyncClient() as client:
        await client.dispatch(SendWelcome(to="ada@example.org"), delay=5)
    towline.travel(seconds=5)
    await towline_worker.run_all_async()
    assert (await handle.status()).state == "SUCCEEDED"
    assert loops[-1] is asyncio.get_running_loop()
"""
    )
    scope = "asyncio_default_fixture_loop_scope=function"
    assert run(suite, "-o", scope, plugins="asyncio").parseoutcomes() == {"passed": 3}


def test_the_address_can_be_said_before_anything_is_imported(application: Application) -> None:
    suite = application(
        "pyproject.toml",
        conftest="from towline import Client\n\nclient = Client()\n",
        test_it="""
from conftest import client


def test_it(towline):
    client.dispatch("Some", {})
    towline.assert_dispatched("Some")
""",
    )
    assert run(suite).parseoutcomes() == {"passed": 1}


def test_options_of_the_worker_are_the_suites_own(application: Application) -> None:
    suite = application(
        "tests/conftest.py",
        test_it="""
from app.jobs import SendWelcome


def test_it(towline, towline_worker):
    SendWelcome(to="nobody").dispatch()
    towline_worker.run_all(check=False)
""",
    )
    result = run(suite, "-s")
    result.stdout.fnmatch_lines(["*SendWelcome(to='nobody', name='') failed:", "ValueError: *"])


def test_a_suite_that_does_not_use_it_does_not_load_it(application: Application) -> None:
    suite = application(
        test_it="""
import sys


def test_it(request):
    assert request.config.pluginmanager.has_plugin("towline")
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"towline", "towline_broker", "grpc", "google"}
"""
    )
    assert run(suite).parseoutcomes() == {"passed": 1}


def test_without_the_package_of_the_broker_a_fixture_names_it(application: Application) -> None:
    suite = application(
        conftest="from towline import embedded\n\nembedded.entry_points = lambda **_: ()\n",
        test_it="def test_it(towline): ...\n",
    )
    result = run(suite)

    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines(["E *memory:// needs the broker*pip install towline-broker"])


def test_its_fixtures_are_listed(application: Application) -> None:
    result = run(application(), "--fixtures")
    result.stdout.fnmatch_lines(["towline -- *", "towline_worker -- *"])
