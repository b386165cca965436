"""Plays schedules, one seed after the other, until one breaks a promise.

    python -m tests.simulation --store file --schedules 500 --seed 1

Exit code: 0 if every promise was kept, 1 if not; then the shortest schedule that shows it is
printed, with the command that plays it again.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Iterator, Sequence

from tests.faults.harness.figures import drawn_seed, record
from tests.simulation.plan import STORES, Plan, Store, drawn
from tests.simulation.shrink import shrunk
from tests.simulation.world import Result, play

#: Violations of one schedule that are told in full.
_TOLD = 3


def say(*lines: object, between: str = " ") -> None:
    sys.stdout.write(between.join(map(str, lines)) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    options = _parsed(arguments)
    say(f"seed {options.seed}")
    began, played, steps = time.monotonic(), 0, 0
    cpu = time.process_time()
    gc.disable()  # what dead processes leave is swept away now and then, with nobody looking
    for plan in _plans(options, began):
        result = play(plan)
        played, steps = played + 1, steps + result.steps
        if options.trace:
            _tell(result)
        if result.violations:
            say(f"schedule {played} (seed {plan.seed}, {plan.conditions.store}) fails")
            _tell(shrunk(result) if options.shrink else result)
            _record(options, played, len(result.violations))
            return 1
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    say(
        f"{played} schedules ({', '.join(options.store)}), {steps} steps in {seconds:.1f} s "
        f"({cpu:.1f} s of CPU): {60 * played / seconds:.0f} a minute "
        f"({60 * played / cpu:.0f} a minute of CPU); every promise was kept"
    )
    _record(options, played, 0)
    return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seed", type=int, default=drawn_seed(), help="of the first schedule")
    parser.add_argument("--store", choices=STORES, action="append", help="default: each in turn")
    parser.add_argument("--schedules", type=_some, help="how many; default: 200, or 1 with --keep")
    parser.add_argument("--seconds", type=float, help="for so long, in place of a number")
    parser.add_argument(
        "--keep", type=_numbers, help="only these operations of the schedule, by number: 3,17"
    )
    parser.add_argument("--salt", type=int, default=0, help="another throw of the dice")
    parser.add_argument("--trace", action="store_true", help="tell what happened in any case")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    options = parser.parse_args(arguments)
    options.store = options.store or list(STORES)
    if options.keep is not None:
        options.shrink = False
    if options.schedules is None and options.seconds is None:
        options.schedules = 200 if options.keep is None else 1
    return options


def _some(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 on")
    return int(text)


def _numbers(text: str) -> set[int]:
    parts = [part for part in text.split(",") if part]
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers, as in 3,17")
    return {int(part) for part in parts}


def _plans(options: argparse.Namespace, began: float) -> Iterator[Plan]:
    number = 0
    while options.schedules is None or number < options.schedules:
        if options.seconds is not None and time.monotonic() - began > options.seconds:
            return
        stores: list[Store] = options.store
        plan = drawn(options.seed + number // len(stores), stores[number % len(stores)])
        if options.keep is not None:
            plan = plan.keeping(options.keep, options.salt)
        yield plan
        number += 1


def _record(options: argparse.Namespace, schedules: int, violations: int) -> None:
    numbers = {"schedules": schedules, "violations": violations}
    record("tests.simulation", f"simulation, {', '.join(options.store)}", options.seed, numbers)


def _tell(result: Result) -> None:
    plan = result.plan
    say(f"conditions: {plan.conditions}")
    say("operations:", *plan.operations, between="\n  ")
    say("what happened:", *result.trace, between="\n")
    say("calls:", *result.history.calls, between="\n  ")
    say(f"violations: {len(result.violations)}", *result.violations[:_TOLD], between="\n  ")
    numbers = ",".join(str(operation.number) for operation in plan.operations)
    say(
        f"again: python -m tests.simulation --store {plan.conditions.store} --seed {plan.seed} "
        f"--keep {numbers} --salt {plan.salt}",
    )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order in sets of strings is to be the same each time.
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main(sys.argv[1:]))
