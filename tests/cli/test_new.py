"""`towline new job`: files that work as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVERY_TYPE = (
    "a:str", "b:int", "c:float", "d:bool", "e:bytes", "f:date", "g:datetime", "h:timedelta",
    "i:Decimal", "j:UUID", "k:list[str]", "l:list[int]", "m",
)  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--function",)])
@pytest.mark.parametrize("fields", [(), EVERY_TYPE])
def test_the_written_test_passes_as_it_is(
    towline: Command, folder: Path, fields: tuple[str, ...], options: tuple[str, ...]
) -> None:
    done = towline("new", "job", "SendWelcomeEmail", *fields, "--folder", "app/jobs", *options)
    assert done.code == 0
    assert "wrote app/jobs/send_welcome_email.py" in done.out
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert "1 passed" in tests.stdout


def test_a_class_is_named_in_camel_case_and_a_function_and_file_in_snake_case(
    towline: Command, folder: Path
) -> None:
    towline("new", "job", "resize_HTTPImage", "--queue", "images")
    text = (folder / "jobs" / "resize_http_image.py").read_text()
    assert "class ResizeHTTPImage(Job):" in text
    assert 'queue = "images"' in text
    towline("new", "job", "BuildReport", "--function")
    assert "def build_report() -> None:" in (folder / "jobs" / "build_report.py").read_text()


@pytest.mark.parametrize("name", ["Import", "TestMail", "Conftest"])
def test_a_job_that_is_called_as_no_module_can_be_is_written_to_another(
    towline: Command, folder: Path, name: str
) -> None:
    assert towline("new", "job", name).code == 0
    loads = "from towline.cli.loading import load; print(*[found.type for found in load('jobs')])"
    worker = subprocess.run(
        [sys.executable, "-c", loads], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert worker.stdout.split() == [name], worker.stderr


def test_nothing_is_written_over(towline: Command, folder: Path) -> None:
    (folder / "tests").mkdir()
    (folder / "tests" / "test_work.py").write_text("mine")
    done = towline("new", "job", "Work")
    assert done.code == 2
    assert "tests/test_work.py: exists already; nothing was written" in done.err
    assert not (folder / "jobs").exists()
    assert towline("new", "job", "Work", "--force").code == 0
    assert (folder / "tests" / "test_work.py").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("9lives",), "NAME: '9lives' cannot be the name of a class or function"),
        (("class",), "NAME: 'class' cannot be the name"),
        (("Return", "--function"), "NAME: 'Return' cannot be the name"),
        (("Job",), "NAME: 'Job' has a meaning already"),
        (("CurrentJob", "--function"), "NAME: 'current_job' has a meaning already"),
        (("Decimal", "price:Decimal"), "NAME: 'Decimal' has a meaning already"),
        (("Send Mail",), "NAME: expected a name of letters"),
        (("Mail", "to:text"), "NAME:TYPE: 'text' in 'to:text' is none of str, int"),
        (("Mail", "2to:str"), "NAME:TYPE: '2to' in '2to:str' cannot be the name of a field"),
        (("Mail", "queue:str"), "NAME:TYPE: a field cannot be called 'queue'"),
        (("Mail", "to:str", "to:int"), "NAME:TYPE: 'to' is given twice"),
        (("Mail", "--queue", "a b"), "--queue: expected a name of letters"),
        (("Mail", "--folder", "../jobs"), "--folder: expected a package below this folder"),
    ],
)
def test_what_cannot_be_python_is_refused(
    towline: Command, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = towline("new", "job", *arguments)
    assert done.code == 2
    assert said in done.err
    assert not any(folder.iterdir())
