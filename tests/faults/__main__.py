"""Runs the fault suite, a representative hour of it, and prints what came of each family.

    python -m tests.faults                    all families, in about an hour on two cores
    python -m tests.faults kills simulation   only these
    python -m tests.faults --full             as in docs/reliability.md: half a day

A size of one's own is a variable, as in TOWLINE_KILLS=40. The seed is printed first; TOWLINE_SEED
repeats a run. Everything that the families say goes to files in one folder, and their figures, a
line of JSON each, to figures.jsonl there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.families import FAMILIES, Family
from tests.faults.harness.figures import drawn_seed, told

ROOT = Path(__file__).resolve().parents[2]
#: Lines of what a failed family said that are shown.
SHOWN = 60


def main() -> int:
    options = parsed()
    seed = drawn_seed()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="towline-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, commit {commit or 'unknown'}; what is said goes to {folder}", flush=True)
    failed = []
    for name in options.families or FAMILIES:
        family = FAMILIES[name]
        began = time.monotonic()
        code = run(name, family, seed, options.full, folder)
        minutes = (time.monotonic() - began) / 60
        print(f"{name:<16} {'ok' if code == 0 else 'FAILED':<7} {minutes:6.1f} min", flush=True)
        if code:
            failed.append(name)
            print(tail(folder / f"{name}.log"))
            print(f"again: {again(name, family, seed, options.full)}", flush=True)
        else:
            for line in left_out(folder / f"{name}.log"):
                print(f"  {line}", flush=True)
    show(folder / "figures.jsonl")
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    families = "\n".join(f"  {name:<16} {each.about}" for name, each in FAMILIES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=f"{__doc__}\nfamilies:\n{families}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all")
    parser.add_argument("--full", action="store_true", help="as much as docs/reliability.md tells")
    parser.add_argument("--folder", type=Path, help="for what is said; default: a temporary one")
    options = parser.parse_args()
    unknown = set(options.families) - FAMILIES.keys()
    if unknown:
        parser.error(f"there is no family {sorted(unknown)[0]}; there are {', '.join(FAMILIES)}")
    return options


def again(name: str, family: Family, seed: int, full: bool) -> str:
    """The command that does the same once more, as much of it as well."""
    variables = [f"TOWLINE_{key}" for key in family.sizes]
    own = [f"{variable}={os.environ[variable]}" for variable in variables if variable in os.environ]
    command = ["python", "-m", "tests.faults", name, *(["--full"] if full else [])]
    return " ".join([f"TOWLINE_SEED={seed}", *own, *command])


def run(name: str, family: Family, seed: int, full: bool, folder: Path) -> int:
    """The exit code: of the first of its commands that fails."""
    sizes = {
        key: os.environ.get(f"TOWLINE_{key}", str(size[full])) for key, size in family.sizes.items()
    }
    environment = {
        **{f"TOWLINE_{key}": value for key, value in sizes.items()},
        **os.environ,
        "TOWLINE_SEED": str(seed),
        "TOWLINE_FIGURES": str(folder / "figures.jsonl"),
    }
    with (folder / f"{name}.log").open("wb") as log:
        for command in family.commands:
            filled = [part.format(seed=seed, **sizes) for part in command]
            done = subprocess.run(
                [sys.executable, "-m", *filled],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            if done.returncode:
                return done.returncode
    return 0


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN:])


def left_out(log: Path) -> list[str]:
    """What was not tested here, and why: a family whose tests are all skipped shows nothing."""
    lines = log.read_text(errors="replace").splitlines()
    return [line for line in lines if line.startswith("SKIPPED [")]


def show(figures: Path) -> None:
    """A line for each."""
    if not figures.exists():
        return
    rows: Sequence[dict[str, object]] = [
        json.loads(line) for line in figures.read_text().splitlines()
    ]
    for row in rows:
        numbers = {key: row[key] for key in row if key not in ("test", "what", "seed")}
        print(f"{row['what']}: {told(numbers)}")


if __name__ == "__main__":
    sys.exit(main())
