"""Install the SDK's wheel into empty virtual environments and check what comes with it.

Twice: with the versions that Towline is developed on, and with the oldest ones that
client/pyproject.toml admits. Run by ``make sdk-only``.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"towline", "grpcio", "protobuf", "typing-extensions"}
# The last Python for which the oldest grpcio has a wheel; building from source takes too long.
OLDEST_GRPCIO_UP_TO = (3, 13)

# Runs in the new environment: imports every module of the SDK, its generated code included.
PROBE = """
import importlib, importlib.util, pkgutil, sys
import towline

# It imports packages to look into them, and those in contrib refuse: see below.
for module in pkgutil.walk_packages(towline.__path__, "towline.", onerror=lambda name: None):
    # The command is what the extra towline[cli] is for; __main__ would run it. In contrib each
    # module goes with a library of the application.
    if module.name.split(".")[1] not in ("cli", "__main__", "contrib"):
        importlib.import_module(module.name)
for library in ("django", "sqlalchemy"):
    try:
        importlib.import_module(f"towline.contrib.{library}")
    except towline.ConfigurationError as error:
        assert f"pip install 'towline[{library}]'" in str(error), error
    else:
        sys.exit(f"towline.contrib.{library} was imported without its library")
unwanted = "towline_broker sqlalchemy django redis google.rpc google.api pydantic typer rich"
for absent in unwanted.split():
    if importlib.util.find_spec(absent) is not None:
        sys.exit(f"{absent} can be imported, so the SDK brings too much")
"""


def run(*command: str | Path) -> str:
    """Return what the command printed; when it fails, show that and end."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"sdk-only: failed: {' '.join(map(str, command[:4]))}\n{done.stdout}")
    return done.stdout


def build_wheel(into: Path) -> Path:
    run(
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        into,
        ROOT / "client",
    )
    (wheel,) = into.glob("towline-*.whl")
    return wheel


def check(name: str, folder: Path, wheel: Path, *versions: str | Path) -> None:
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "-qq", wheel, *versions)
    installed = {
        item["name"]: item["version"] for item in json.loads(run(*pip, "list", "--format=json"))
    }
    if extra := {package.lower().replace("_", "-") for package in installed} - ALLOWED:
        sys.exit(
            f"sdk-only: the SDK brings more than grpcio and protobuf: {', '.join(sorted(extra))}"
        )
    # -I: neither the current folder nor PYTHONPATH helps; -W error: it loads without a warning.
    run(python, "-I", "-W", "error", "-c", PROBE)
    print(f"sdk-only: {name}: {', '.join(f'{p} {v}' for p, v in sorted(installed.items()))}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build_wheel(folder)
        check("current versions", folder / "current", wheel, "-c", ROOT / "constraints.txt")
        if sys.version_info[:2] <= OLDEST_GRPCIO_UP_TO:
            check("oldest versions", folder / "oldest", wheel, "grpcio==1.71.0", "protobuf==5.29.1")
        else:
            print("sdk-only: oldest versions: not checked, they have no wheels for this Python")


if __name__ == "__main__":
    main()
