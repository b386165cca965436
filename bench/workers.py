"""How long it takes until a job runs after a child of a process pool was killed.

python -m bench.workers
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import processes
from towline import Client


@contextmanager
def worker(address: str) -> Iterator[None]:
    options = {"pool": "process", "concurrency": 1}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.working", address, json.dumps(options)],
        stderr=subprocess.DEVNULL,  # it says how each of its children was killed
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def replacement(address: str, folder: Path, times: int) -> list[float]:
    """Seconds from the death of a child to the handler of the next job."""
    path = {"path": str(folder / "died")}
    with Client(address) as client, worker(address):
        took = []
        for _ in range(times):
            client.dispatch("die", path)
            took.append(client.dispatch("since", path).result(60))
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=20)
    options = parser.parse_args()
    with processes.fresh_folder() as folder, processes.broker(f"file:///{folder}/jobs") as address:
        took = sorted(replacement(address, folder, options.times))
    middle = took[len(took) // 2]
    print(f"milliseconds from a killed child to the next job: {middle * 1e3:.1f}", end="")
    print(f" (the longest of {len(took)}: {took[-1] * 1e3:.1f})")


if __name__ == "__main__":
    main()
