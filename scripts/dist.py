"""Build the sdist and the wheel of both distributions, check them, and write the bill of materials
of each. Run by ``make dist``.

What is built depends on the commit and on nothing else: the time in the archives is that of the
commit (SOURCE_DATE_EPOCH, if that is set), so whoever builds it again gets the same bytes. A wheel
is made from the sdist, as an installer would, and from the tree; the two must be the same.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from packaging.metadata import Metadata

from scripts.dependencies import Unknown
from scripts.sbom import bill_of_materials

ROOT = Path(__file__).resolve().parent.parent
#: The time in the archives where nothing tells one; it is what hatchling takes by itself.
NO_HISTORY = 1580601600


@dataclass(frozen=True)
class Project:
    name: str
    folder: str
    #: What has to be in the wheel, besides what its RECORD and metadata are checked for.
    needs: tuple[str, ...]


PROJECTS = (
    Project(
        "towline",
        "client",
        (
            "towline/py.typed",
            "pytest_towline/py.typed",
            "towline/v1/job_pb2.py",
            "towline/v1/job_pb2.pyi",
            "towline/v1/queue_service_pb2_grpc.py",
            "towline/v1/queue_service_pb2_grpc.pyi",
        ),
    ),
    Project(
        "towline-broker",
        "broker",
        (
            "towline_broker/py.typed",
            "towline_broker/drivers/redis/scripts/push.lua",
            "towline_broker/testing/contract.py",
        ),
    ),
)


class Wrong(Exception):
    """What was built is not what should be handed out."""


def run(*command: str | Path, folder: Path = ROOT, epoch: int = NO_HISTORY) -> None:
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, command[1:4]))} failed:\n{done.stdout}")


def time_of_commit() -> int:
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return NO_HISTORY
    command = ("git", "log", "-1", "--format=%ct")
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)


def build(project: Project, into: Path, epoch: int) -> tuple[Path, Path]:
    """The sdist and the wheel that is made of it."""
    hatchling = (sys.executable, "-m", "hatchling", "build")
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        tree = (*hatchling, "-t", "sdist", "-t", "wheel", "-d", here / "tree")
        run(*tree, folder=ROOT / project.folder, epoch=epoch)
        (sdist,) = (here / "tree").glob("*.tar.gz")
        (of_tree,) = (here / "tree").glob("*.whl")
        with tarfile.open(sdist) as archive:
            archive.extractall(here / "unpacked", filter="data")
        (unpacked,) = (here / "unpacked").iterdir()
        run(*hatchling, "-t", "wheel", "-d", here / "wheel", folder=unpacked, epoch=epoch)
        (of_sdist,) = (here / "wheel").glob("*.whl")
        if of_sdist.name != of_tree.name or of_sdist.read_bytes() != of_tree.read_bytes():
            raise Wrong(f"{of_tree.name}: made of the sdist it is not what is made of the tree")
        return Path(shutil.copy(sdist, into)), Path(shutil.copy(of_sdist, into))


def check(project: Project, sdist: Path, wheel: Path) -> None:
    """Raises Wrong, naming what is missing or too much."""
    checker = (Path(sys.executable).parent / "check-wheel-contents", "--config")
    run(*checker, ROOT / project.folder / "pyproject.toml", wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        text = archive.read(f"{info}/METADATA")
    for needed in (*project.needs, f"{info}/licenses/LICENSE"):
        if needed not in names:
            raise Wrong(f"{wheel.name}: there is no {needed} in it")
    with tarfile.open(sdist) as packed:
        top = f"{sdist.name.removesuffix('.tar.gz')}/"
        members = packed.getmembers()
        held = {member.name.removeprefix(top) for member in members if member.isreg()}
        file = packed.extractfile(f"{top}PKG-INFO")
        if file is None or file.read() != text:
            raise Wrong(f"{sdist.name}: its metadata are not those of the wheel")
    for needed in ("LICENSE", "README.md", "pyproject.toml"):
        if needed not in held:
            raise Wrong(f"{sdist.name}: there is no {needed} in it")
    metadata = Metadata.from_email(text, validate=True)
    for field in ("summary", "description", "license_expression", "classifiers", "requires_python"):
        if not getattr(metadata, field):
            raise Wrong(f"{wheel.name}: its metadata have no {field}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="default: dist")
    into = parser.parse_args().into
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    epoch = time_of_commit()
    try:
        for project in PROJECTS:
            sdist, wheel = build(project, into, epoch)
            check(project, sdist, wheel)
            bill = bill_of_materials(project.name, wheel, epoch)
            (into / f"{sdist.name.removesuffix('.tar.gz')}.cdx.json").write_text(bill)
    except (Wrong, Unknown) as error:
        sys.exit(f"dist: {error}")
    files = sorted(into.iterdir())
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (into / "SHA256SUMS").write_text("".join(sums))
    for file in files:
        print(f"dist: {file.name} ({file.stat().st_size / 1024:,.0f} KiB)")


if __name__ == "__main__":
    main()
