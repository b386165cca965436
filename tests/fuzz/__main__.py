"""Fuzzes everything and prints a table: ``python -m tests.fuzz --messages 1000000 --seed 7``.

What is found is printed with the command that finds it again.
"""

import argparse
import faulthandler
import multiprocessing
import os
import signal
import sys
import time
import traceback

from tests.faults.harness.figures import drawn_seed, record
from tests.fuzz.running import Hang, Report, run_share

#: An epoch that takes so long of the processor's time hangs, and is reported as what was found; one
#: that takes so long by the clock is stuck where Python cannot help, and the stacks are printed.
HANG_SECONDS = 60
STUCK_SECONDS = 1_800


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
        reports = [_share(*shares[0])]
    else:
        with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
            reports = pool.starmap(_share, shares)
    total = sum(reports[1:], start=reports[0])
    seconds = time.monotonic() - began
    sys.stdout.write(total.table(seconds) + "\n")
    record("tests.fuzz", "fuzzed", options.seed, total.figures(seconds))
    for found in total.found:
        sys.stderr.write(f"\n{found}\n")
    return 1 if total.found else 0


def _share(
    seed: int, messages: int, only: str, number: int, shares: int, epoch: int | None
) -> Report:
    faulthandler.enable()

    def hangs(*_: object) -> None:
        where = "".join(traceback.format_stack()[-12:])
        raise Hang(f"no end after {HANG_SECONDS} s of the processor\n{where}")

    def alive() -> None:
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)

    signal.signal(signal.SIGPROF, hangs)
    try:
        return run_share(seed, messages, only, number, shares, epoch, alive)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=drawn_seed(), help="default: TOWLINE_SEED")
    parser.add_argument("--target", default="", help="only this one")
    parser.add_argument("--epoch", type=int, help="only this one of the target")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
