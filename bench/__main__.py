"""Measures what Towline can do, beside the limits of its parts and its peers, on this machine.

    make bench                                  # everything, and writes docs/performance.md
    make bench ARGS=--quick                     # a look at everything in under two minutes
    make bench ARGS="--only calls --store file" # one part

Real processes, asked by turns (A B A B), so that whatever else the machine does falls on all that
is compared: trust the ratios. Figures are medians of the rounds, beside the least and the most.
Results are kept in bench/results.jsonl, a line for each part; the page is made from them. A quick
run, or one of some stores only, is printed and not kept, unless --write says so. What is kept is of
a commit, so there must be no other changes; and a part that failed half-way does not take the place
of one that has what it lost.
"""

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.attempts import attempt
from bench.keeping import refusal
from bench.options import Options
from bench.parts import PARTS
from bench.report import page, tables
from bench.report.goals import goals
from bench.results import Part, Results, changed_files
from bench.stores import STORES

RESULTS = Path("bench") / "results.jsonl"
QUICK_STORES = ("memory", "file", "sqlite", "postgresql", "redis")


def measure(name: str, options: Options, asked: str = "") -> Part:
    """One that fails says so: the others go on."""
    part = Part.begin(name, options.quick, asked)
    began = time.monotonic()
    print(f"{name}:", flush=True)
    with attempt(part, name):
        importlib.import_module(PARTS[name]).run(part, options)
    for missing in part.missing:
        print(f"  not measured: {missing}", flush=True)
    for failed in part.failed:
        print(f"  failed: {failed}", flush=True)
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return part


def keep(part: Part, kept: Results) -> None:
    """As soon as it is there, for a run takes long."""
    if why := refusal(part, kept.part(part.name)):
        print(f"  {part.name} is not kept: {why}", flush=True)
        return
    kept.add(part)
    kept.save(RESULTS)
    page.write(kept)


def how(name: str, options: argparse.Namespace) -> str:
    """The options that measure this part once more, in the same way."""
    words = [f"--only {name}"]
    words += ["--quick"] if options.quick else []
    words += [f"--store {store}" for store in options.store or ()]
    words += [f"--rounds {options.rounds}"] if options.rounds else []
    words += ["--write"] if options.write else []
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer shapes and stores, shorter")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--store", action="append", choices=STORES, help="may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds that count (default 5; quick: 1)")
    parser.add_argument(
        "--write",
        action=argparse.BooleanOptionalAction,
        help="keep what a quick run found, too; or nothing at all",
    )
    parser.add_argument("--render", action="store_true", help="only write the page anew")
    options = parser.parse_args(arguments)
    kept = Results.load(RESULTS)
    if options.render:
        page.write(kept)
        return 0
    asked = Options(
        quick=options.quick,
        stores=options.store or (QUICK_STORES if options.quick else list(STORES)),
        rounds=options.rounds or (1 if options.quick else 5),
    )
    partial = options.quick or options.store
    keeps = not partial if options.write is None else options.write
    if keeps and (changed := changed_files()):
        parser.error(
            "what is kept is of a commit, and these files have been changed since the last one:\n  "
            + "\n  ".join(changed)
            + "\nCommit them or put them aside, or add --no-write to have the figures printed only."
        )
    # Before what may take an hour.
    if partial and options.write is None:
        print(
            "printed only, as each quick run, and each of some stores: or add --write", flush=True
        )
    found = Results()
    for name in options.only or PARTS:
        part = measure(name, asked, how(name, options))
        found.add(part)
        if keeps:
            keep(part, kept)
    print()
    for part in found:
        print(tables.of_part(found, part), end="\n\n")
    print(tables.of_goals(goal for goal in goals(found) if goal.figure is not None))
    return 1 if any(part.failed or not part.figures for part in found) else 0


if __name__ == "__main__":
    sys.exit(main())
