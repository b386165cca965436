"""Judges once more what clients wrote down in a run.

    python -m tests.faults.harness FOLDER [--order-slack SECONDS] [--locks SECONDS]

FOLDER is the ``diaries`` of a test that failed. Exit code: 1 if a promise was broken.
"""

import argparse
import sys
from pathlib import Path

from tests.faults.harness.assumptions import Assumptions
from tests.faults.harness.checker import judge
from tests.faults.harness.load import recorded


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.harness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--order-slack", type=float, default=0.0, help="of several brokers: 10")
    parser.add_argument("--locks", type=float, help="of a shared SQL database: 5")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    assumptions = Assumptions(order_slack=options.order_slack, locks=options.locks)
    verdict = judge(recorded(options.folder), assumptions)
    sys.stdout.write(verdict.told() + "\n")
    return 0 if verdict.kept else 1


if __name__ == "__main__":
    sys.exit(main())
