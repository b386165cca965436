"""Commands over a store take its url from where ``serve`` does, so that no password is typed."""

import json
import subprocess
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.archive.support import opened, run
from tests.support.broker_process import COMMAND
from towline_broker.testing import new_job

REFUSED, CONFIG = 66, 78


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("TOWLINE_STORE", "TOWLINE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
async def urls(folder: Path) -> dict[str, str]:
    """Two stores with a job each, in queues of their names."""
    found = {name: f"sqlite:///{folder}/{name}.db" for name in ("main", "fast")}
    for name, url in found.items():
        async with opened(url) as store:
            await store.create(new_job(name))
    return found


def exported(file: str, *options: str) -> str:
    """The queue of the only job in an export that is made with these options."""
    run("export", *options, file)
    lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    (job,) = (line for line in lines if line["is"] == "job")
    return str(job["queue"])


def test_the_url_comes_from_a_file_the_environment_or_dotenv(
    urls: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.toml").write_text(f'store = "{urls["main"]}"\n')
    assert exported("1", "--config", "a.toml") == "main"
    (folder / ".env").write_text(f"TOWLINE_STORE={urls['fast']}\n")
    assert exported("2", "--config", "a.toml") == "fast"
    monkeypatch.setenv("TOWLINE_STORE", urls["main"])
    assert exported("3") == "main"
    assert exported("4", "--store", urls["fast"]) == "fast"
    run("backup", "copy.db")
    assert "1 job" in run("check").stderr
    assert "has schema version" in run("schema", "current").stdout
    monkeypatch.setenv("TOWLINE_STORE", f"sqlite:///{folder}/new.db")
    assert f"into sqlite:///{folder}/new.db" in run("import", "1").stderr


def test_of_several_stores_one_is_named(urls: dict[str, str], folder: Path) -> None:
    text = f'store = "{urls["main"]}"\n[stores]\nfast = "{urls["fast"]}"\n'
    (folder / "towline-broker.toml").write_text(text + '[queues.fast]\nstore = "fast"\n')
    assert exported("1", "--store", "fast") == "fast"
    assert exported("2", "-q", "*", "--store", "default") == "main"
    for command in (("export", "3"), ("import", "1"), ("backup", "3"), ("check",)):
        said = run(*command, code=2).stderr
        assert "which one? The settings name default, fast" in said
    assert "no store is called 'quick'" in run("check", "--store", "quick", code=2).stderr
    both = run("check", "--store", "fast=redis://:secret@x", code=2).stderr
    assert "a name or a url, not both: fast or redis://:***@x" in " ".join(both.split())
    assert len(run("schema", "current").stdout.splitlines()) == 2
    assert len(run("schema", "current", "--store", "fast").stdout.splitlines()) == 1


def test_a_store_that_is_not_there_is_told_with_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run("check", code=REFUSED).stderr
    assert f"there is no store at {folder}/towline.db (no setting names another store" in said
    monkeypatch.setenv("TOWLINE_STORE", "sqlite:///other.db")
    said = run("export", "x", code=REFUSED).stderr
    assert f"{folder}/other.db (environment variable TOWLINE_STORE)" in said
    monkeypatch.delenv("TOWLINE_STORE")
    (folder / "towline-broker.toml").write_text("store = 5\n")
    assert "store: expected the url of a store" in run("check", code=CONFIG).stderr
    assert not list(folder.glob("*.db"))


def test_an_export_to_a_standard_output_that_nobody_reads_is_none(urls: dict[str, str]) -> None:
    export = [*COMMAND, "export", "--store", urls["main"], "-"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *export], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (closed.returncode, "standard output: Bad file" in closed.stderr) == (73, True)


def test_no_password_is_seen_among_the_processes(folder: Path) -> None:
    """What is typed would be; what is taken from .env is not."""
    (folder / ".env").write_text("TOWLINE_STORE=redis://user:hunter2@127.0.0.1:1/0\n")
    check = subprocess.Popen([*COMMAND, "check"], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert "hunter2" not in " ".join(psutil.Process(check.pid).cmdline())
    _, said = check.communicate(timeout=60)
    assert check.returncode == 69
    assert "(variable in .env: TOWLINE_STORE)" in said
    assert "hunter2" not in said
