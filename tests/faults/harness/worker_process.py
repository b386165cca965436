"""A worker in a process of its own, which can be killed.

    python -m tests.faults.harness.worker_process ADDRESSES FOLDER NAME SEED HABITS

SIGTERM ends it after the batch at hand.
"""

import signal
import sys
import threading
from pathlib import Path

from tests.faults.harness.diary import Diary
from tests.faults.harness.habits import Habits
from tests.faults.harness.link import Link
from tests.faults.harness.worker import Worker

#: Once a file of this name is in the folder, everything is acknowledged.
CALM = "calm"


def main(addresses: str, folder: str, name: str, seed: str, habits: str) -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    calm = Path(folder) / CALM
    with Link(addresses.split(",")) as link:
        worker = Worker(link, Diary(Path(folder), name), Habits.from_json(habits), name, int(seed))
        worker.run(lambda: not stopping.is_set(), lambda: not calm.exists())


if __name__ == "__main__":
    main(*sys.argv[1:])
