"""The wheels and sdists of both distributions, as whoever gets only them has them."""

import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.broker_process import BrokerProcess

ROOT = Path(__file__).parents[2]
PROJECTS = {
    folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    for folder in ("client", "broker")
}
BLOCK = re.compile(r"^```python(?: title=\S+)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 60


def clean_checkout(into: Path) -> None:
    """What is built from, as it would be checked out: without anything that git does not know."""
    what = ("client", "broker", "scripts", "requirements", "constraints.txt")
    listed = subprocess.run(
        ["git", "ls-files", "-z", *what], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).exists():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, into / name)


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name[:8] != "TOWLINE_"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def empty_environment(folder: Path) -> Path:
    """A virtual environment that has the libraries of this one, but neither distribution: what is
    installed in place here is found by .pth files, which count in the first folder only."""
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin"


def test_what_a_clean_checkout_builds_installs_without_an_index_and_works(tmp_path: Path) -> None:
    checkout, built, work = tmp_path / "checkout", tmp_path / "dist", tmp_path / "work"
    clean_checkout(checkout)
    told = run(sys.executable, "-m", "scripts.dist", "--into", built, folder=checkout)
    wheels = sorted(built.glob("*.whl"))
    assert len(wheels) == 2, told
    commands = empty_environment(tmp_path / "environment")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python")
    install = (commands / "python", "install", "-qq", "--no-index", "--no-deps")
    run(*pip, *install, *wheels, folder=tmp_path)

    work.mkdir()
    version = PROJECTS["client"]["version"]
    for command in ("towline", "towline-broker"):
        assert run(commands / command, "--version", folder=work) == f"{command} {version}\n"
    jobs, program = BLOCK.findall((ROOT / "client/README.md").read_text())
    (work / "app").mkdir()
    (work / "app/jobs.py").write_text(jobs)
    (work / "program.py").write_text(program)
    with BrokerProcess("memory:", command=[str(commands / "towline-broker")]) as broker:
        (work / "program.py").write_text(program.replace("127.0.0.1:7480", broker.address))
        worker = (commands / "towline", "worker", "app.jobs", "--max-jobs", "1")
        with subprocess.Popen([*worker, "--url", broker.address], cwd=work) as process:
            try:
                assert "sent to" in run(commands / "python", "program.py", folder=work)
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


def test_both_have_one_version_and_the_broker_wants_an_sdk_of_it() -> None:
    client, broker = PROJECTS["client"], PROJECTS["broker"]
    assert client["version"] == broker["version"]
    (needed,) = [text for text in broker["dependencies"] if text.startswith("towline>")]
    assert Requirement(needed).specifier.contains(client["version"])


def test_the_licence_in_both_is_that_of_the_repository() -> None:
    text = (ROOT / "LICENSE").read_text()
    for folder in PROJECTS:
        # A link would lead nowhere from inside an sdist.
        assert not (ROOT / folder / "LICENSE").is_symlink()
        assert (ROOT / folder / "LICENSE").read_text() == text
