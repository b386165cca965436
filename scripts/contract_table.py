"""Runs the contract suite over every store and prints what came of it, a line for each kind.

    python scripts/contract_table.py --examples 500

A kind is a class of tests/contract/test_*.py (a store in one topology). The last column is the
number of examples, each of up to 50 operations, that the state machine played against its model.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("test_registry.py", "test_suite_catches_planted_bugs.py", "test_memory_bounds.py")
OUTCOMES = ("passed", "failed", "skipped")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=100, help="per store (default 100)")
    parser.add_argument("--store", action="append", help="only these: memory, file, sqlite, ...")
    options = parser.parse_args()
    modules = [
        path
        for path in sorted((ROOT / "tests" / "contract").glob("test_*.py"))
        if path.name not in LEFT_OUT
        and (options.store is None or path.stem.removeprefix("test_") in options.store)
    ]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        code = run(modules, report, options.examples)
        cases = list(ElementTree.parse(report).iter("testcase"))
    show(cases, options.examples)
    return code


def run(modules: Iterable[Path], report: Path, examples: int) -> int:
    environment = os.environ | {"TOWLINE_CONTRACT_EXAMPLES": str(examples)}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--timeout", "7200"]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1", *map(str, modules)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def show(cases: Iterable[ElementTree.Element], examples: int) -> None:
    suites: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        name, where = case.get("name", ""), case.get("classname", "")
        kind = where.removeprefix("tests.contract.test_")
        if "random" in name:
            parameter = name.partition("[")[2].rstrip("]")
            module = kind.partition(".")[0]
            label = f"{module}, at random" + (f" ({parameter})" if parameter else "")
            suites[label]["examples"] += examples
            suites[label][outcome(case)] += 1
        else:
            suites[kind][outcome(case)] += 1
    print(f"{'':45}{'passed':>8}{'failed':>8}{'left out':>10}{'examples':>10}")
    for kind, counts in sorted(suites.items()):
        passed, failed, skipped = (counts[each] for each in OUTCOMES)
        print(f"{kind:45}{passed:>8}{failed:>8}{skipped:>10}{counts['examples'] or '':>10}")


def outcome(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


if __name__ == "__main__":
    sys.exit(main())
