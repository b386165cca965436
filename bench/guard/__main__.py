"""Counts what the hot paths execute for each job, and fails if that is more than a tenth above the
committed baseline.

    make guard                  # compares
    make guard ARGS=--update    # what is counted now becomes the baseline

Bytecode instructions, and steps of SQLite's statements: on every machine the same, busy or not.
What is worse on purpose, or better, is written into bench/guard/baseline.json by --update, and
committed with the change that made it so.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.guard import broker_paths, sdk_paths
from bench.guard.baseline import PLACE, Baseline, Comparison
from bench.guard.counter import Counter

SDK = "SDK"
PARTS = (*broker_paths.STORES, SDK)


def count(parts: Sequence[str]) -> Baseline:
    """What each path of these parts takes now, per job."""
    counter = Counter()
    figures: dict[str, float] = {}
    for part in parts:
        if part == SDK:
            figures |= sdk_paths.count(counter)
        else:
            figures |= asyncio.run(broker_paths.count(counter, part))
    return Baseline.here(figures)


def count_again(parts: Sequence[str], then: Baseline) -> Baseline:
    """Counts once more if it was too much: what comes in between on a busy machine only adds."""
    now = count(parts)
    for _ in range(2):
        if all(one.passes for one in compared(now, then, parts)):
            break
        now = now.or_less(count(parts))
    return now


def compared(now: Baseline, then: Baseline, parts: Sequence[str]) -> list[Comparison]:
    return [one for one in then.compare(now) if one.path.partition(" ")[0] in parts]


def check(now: Baseline, then: Baseline, parts: Sequence[str]) -> bool:
    """Prints how it compares; whether every path passes."""
    if now.made_with != then.made_with:
        print(
            f"The baseline is of {then.made_with}, this is {now.made_with}: the bound is wider.\n"
        )
    paths = compared(now, then, parts)
    print(f"{'instructions per job':34}{'baseline':>9}{'now':>9}{'change':>9}")
    for one in paths:
        print(one)
    if any(one.better for one in paths):
        print("\nTo hold what is better: make guard ARGS=--update, and commit the baseline.")
    if all(one.passes for one in paths):
        return True
    print(
        f"\nguard: more than {paths[0].bound:.0%} worse than the baseline, or not in it. "
        "If that is meant: make guard ARGS=--update, and say in the commit what it buys.",
        file=sys.stderr,
    )
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make guard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help="write the baseline anew")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be repeated")
    parser.add_argument("--baseline", type=Path, default=PLACE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    parts = options.only or PARTS
    # Counting makes it slow, and a broker tells of a machine that is.
    logging.disable(logging.WARNING)
    try:
        if options.update:
            kept = Baseline.load(options.baseline).figures if options.only else {}
            Baseline.here({**kept, **count(parts).figures}).save(options.baseline)
            print(f"written: {options.baseline}")
            return 0
        then = Baseline.load(options.baseline)
        return 0 if check(count_again(parts, then), then, parts) else 1
    finally:
        logging.disable(logging.NOTSET)


if __name__ == "__main__":
    sys.exit(main())
