"""A worker to be measured, as a program: the address of a broker, and options of Worker as JSON."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from towline import Worker, job


@job
def tell_when(pushed: float) -> None:
    """Says how many seconds after that moment it was run."""
    print(time.monotonic() - pushed, flush=True)


@job(max_attempts=1)
def die(path: str) -> None:
    """Kills its process, having noted when."""
    Path(path).write_text(repr(time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)


@job(retention=60)
def since(path: str) -> float:
    """The seconds since then, on the clock that all processes of a machine share."""
    return time.monotonic() - float(Path(path).read_text())


if __name__ == "__main__":
    Worker(sys.argv[1], **json.loads(sys.argv[2])).run()
