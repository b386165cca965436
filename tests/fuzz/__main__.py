"""Fuzzes everything and prints a table: ``python -m tests.fuzz --messages 1000000 --seed 7``.

What is found is printed with the command that finds it again.
"""

import argparse
import multiprocessing
import os
import sys
import time

from tests.faults.harness.figures import drawn_seed, record
from tests.fuzz.running import all_targets
from tests.fuzz.watched import run_watched


def main() -> int:
    options = _options()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    shares = [
        (options.seed, options.messages, options.target, number, options.processes, options.epoch)
        for number in range(options.processes)
    ]
    if options.processes == 1:
        reports = [run_watched(*shares[0])]
    else:
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            reports = pool.starmap(run_watched, shares)
    total = sum(reports[1:], start=reports[0])
    seconds = time.monotonic() - began
    sys.stdout.write(total.table(seconds) + "\n")
    record("tests.fuzz", "fuzzed", options.seed, total.figures(seconds))
    for found in total.found:
        sys.stderr.write(f"\n{found}\n")
    return 1 if total.found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=drawn_seed(), help="default: TOWLINE_SEED")
    parser.add_argument("--target", default="", help="only this one")
    parser.add_argument("--epoch", type=int, help="only this one of the target")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    names = [target.name for target in all_targets()]
    if options.target not in ("", *names):
        parser.error(f"there is no target {options.target!r}; there are {', '.join(names)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
