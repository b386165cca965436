"""Settings from files and the environment: which one wins, and what is said of a wrong one."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command

JOBS = "from towline import Job\n\nclass Add(Job):\n    def handle(self) -> None: ...\n"
NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, without any variable of ours."""
    monkeypatch.chdir(tmp_path)
    for name in ("TOWLINE_URL", "TOWLINE_WORKER_CONCURRENCY", "TOWLINE_WORKER_LEASE"):
        # Set and removed, so that what .env sets is taken back after the test.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / "settings_jobs.py").write_text(JOBS)
    return tmp_path


def defaults_of(towline: Command) -> str:
    """What --help says the options of a worker are."""
    done = towline("worker", "--help")
    assert done.code == 0
    return " ".join(done.out.split())


def test_a_worker_reads_its_options_from_towline_toml(towline: Command, folder: Path) -> None:
    (folder / "towline.toml").write_text(
        '[worker]\nmodule = "settings_jobs"\nqueue = ["mail", "rest"]\nmax-jobs = 5\nlease = "7s"\n'
    )
    shown = defaults_of(towline)
    assert "default: settings_jobs" in shown
    assert "default: mail, rest" in shown
    assert "default: 5" in shown
    assert "default: 7s" in shown


def test_weights_of_queues_may_be_a_table(towline: Command, folder: Path) -> None:
    (folder / "towline.toml").write_text("[worker]\nqueue = { mail = 3, rest = 1 }\n")
    assert "default: mail=3, rest=1" in defaults_of(towline)


def test_towline_toml_comes_before_pyproject(towline: Command, folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "app"\n\n[tool.towline.worker]\nconcurrency = 3\nlease = "9s"\n'
    )
    (folder / "towline.toml").write_text("[worker]\nconcurrency = 4\n")
    shown = defaults_of(towline)
    assert "CONCURRENCY; default: 4" in shown
    assert "default: 9s" in shown


def test_a_variable_comes_before_dotenv_and_both_before_files(
    towline: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "towline.toml").write_text('[worker]\nconcurrency = 1\nlease = "1x"\n')
    (folder / ".env").write_text(
        "TOWLINE_WORKER_CONCURRENCY=0\nTOWLINE_WORKER_LEASE=2x\nSECRET_OF_THE_APP=1\n"
    )
    monkeypatch.setenv("TOWLINE_WORKER_LEASE", "3x")
    done = towline("worker", "settings_jobs")
    assert "'3x' is no duration" in done.err
    done = towline("worker", "settings_jobs", "--lease", "5s")
    assert "concurrency: expected a whole number from 1 to 10000, got 0" in done.err


def test_only_variables_of_towline_are_taken_from_dotenv(
    towline: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.delenv("OF_THE_APP", raising=False)
    (folder / ".env").write_text("OF_THE_APP=1\n")
    assert towline("worker", "--help").code == 0
    assert "OF_THE_APP" not in os.environ


def test_a_variable_that_looks_like_a_setting_and_is_none_is_refused(
    towline: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOWLINE_WORKER_PROCESES", "4")
    done = towline("stats", "--url", NOWHERE)
    assert done.code == 2
    assert "environment variable TOWLINE_WORKER_PROCESES: no such setting" in done.err
    assert "did you mean TOWLINE_WORKER_PROCESSES?" in done.err
    monkeypatch.delenv("TOWLINE_WORKER_PROCESES")
    (folder / ".env").write_text("TOWLINE_STORE=memory:\nTOWLINE_TOKEM=twl_secret\n")
    done = towline("stats", "--url", NOWHERE)
    assert done.code == 2
    assert ".env: TOWLINE_TOKEM: no such setting; did you mean TOWLINE_TOKEN?" in done.err
    assert "secret" not in done.err


@pytest.mark.parametrize("name", ["TOWLINE_INSECURE_TOKEN", "TOWLINE_USE_PROXY"])
def test_a_folder_cannot_send_a_token_of_the_environment_where_it_would_not_go(
    towline: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in (name, "TOWLINE_TOKEN"):
        monkeypatch.setenv(each, "")
        monkeypatch.delenv(each)
    (folder / ".env").write_text(
        f"TOWLINE_URL={NOWHERE}\nTOWLINE_TOKEN=twl_of_the_file\n{name}=1\n"
    )
    assert towline("stats").code != 2
    for each in (name, "TOWLINE_TOKEN"):
        monkeypatch.delenv(each)
    monkeypatch.setenv("TOWLINE_TOKEN", "twl_of_the_environment")
    done = towline("stats")
    assert done.code == 2
    assert f".env: {name} holds for a token in the same file" in done.err
    assert f"set {name} there, too" in done.err
    monkeypatch.setenv(name, "1")
    assert towline("stats").code != 2


def test_the_url_of_the_environment_comes_before_that_of_a_file(
    towline: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "towline.toml").write_text('url = "127.0.0.1:1"\n')
    assert f"at {NOWHERE}" in towline("stats").err
    monkeypatch.setenv("TOWLINE_URL", "127.0.0.1:2")
    assert "at 127.0.0.1:2" in towline("stats").err
    assert "at 127.0.0.1:3" in towline("stats", "--url", "127.0.0.1:3").err


def test_a_named_file_stands_instead_of_the_others(towline: Command, folder: Path) -> None:
    (folder / "towline.toml").write_text('url = "127.0.0.1:1"\n')
    (folder / "other.toml").write_text('url = "127.0.0.1:4"\n')
    assert "at 127.0.0.1:4" in towline("--config", "other.toml", "stats").err
    done = towline("--config", "absent.toml", "stats")
    assert done.code == 2
    assert "absent.toml: cannot be read: No such file" in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[worker]\nmodul = 1\n", "there is no setting 'worker.modul'; did you mean worker.module"),
        ("[wroker]\n", "there is no setting 'wroker'; did you mean worker"),
        ("worker = 1\n", "worker: expected a table of options, got 1"),
        ("url = 1\n", "url: expected a string such as host:port, got 1"),
        ("[worker]\nlease = [1]\n", "worker.lease: expected text, a number or a list of texts"),
        ("[worker\n", "towline.toml: Expected ']'"),
    ],
)
def test_a_wrong_setting_is_told_with_its_place(
    towline: Command, folder: Path, text: str, said: str
) -> None:
    (folder / "towline.toml").write_text(text)
    done = towline("worker", "settings_jobs")
    assert done.code == 2
    assert "towline.toml: " in done.err
    assert said in done.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool]\ntowline = "x"\n', "pyproject.toml: towline: expected a table, got 'x'"),
        ("tool = 3\n", "pyproject.toml: tool: expected a table, got 3"),
    ],
)
def test_a_pyproject_without_the_table_is_told(
    towline: Command, folder: Path, text: str, said: str
) -> None:
    (folder / "pyproject.toml").write_text(text)
    done = towline("worker", "settings_jobs")
    assert (done.code, done.err) == (2, f"towline: {said}\n")


def test_a_wrong_value_is_told_with_the_file_that_set_it(towline: Command, folder: Path) -> None:
    (folder / "towline.toml").write_text('[worker]\nlease = "soon"\nconcurrency = "x"\n')
    done = towline("worker", "settings_jobs", "-c", "2")
    assert "--lease: 'soon' is no duration" in done.err
    assert done.err.rstrip().endswith("(set in towline.toml)")
    done = towline("worker", "settings_jobs", "--lease", "1s")
    assert "'--concurrency'" in done.err
    assert "(set in towline.toml)" in done.err
