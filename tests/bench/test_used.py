"""What a raw client takes of the processor is told beside what everybody takes."""

import subprocess
import sys
import time

from bench.raw.used import Used

SECONDS, JOBS = 0.4, 100
BUSY = f"import time\nwhile time.process_time() < {SECONDS}: pass"


def test_the_client_is_told_apart_from_the_server_beside_it() -> None:
    before = Used.now()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    used = Used.now().since(before, JOBS)
    assert used["own"] * JOBS < 1e6 * SECONDS / 2
    assert used["all"] * JOBS > 1e6 * SECONDS * 0.8


def test_what_the_client_takes_is_of_all() -> None:
    before, until = Used.now(), time.process_time() + SECONDS
    while time.process_time() < until:
        pass
    used = Used.now().since(before, JOBS)
    assert used["own"] * JOBS > 1e6 * SECONDS * 0.9
    assert used["all"] * JOBS > 1e6 * SECONDS * 0.8
