"""A file store in a folder of the test, and looking into its journal."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tests.support.stores import open_store
from towline_broker.domain.time import Micros
from towline_broker.drivers.disk import free_bytes
from towline_broker.drivers.file import FileDriver
from towline_broker.drivers.file.live import LiveStore
from towline_broker.drivers.file.reading import Reader
from towline_broker.drivers.file.recording import Recorder
from towline_broker.drivers.file.restoring import Restoration
from towline_broker.drivers.file.rows import encode
from towline_broker.drivers.file.url import FileUrl
from towline_broker.drivers.memory.state import State
from towline_broker.testing.factories import START

#: The smallest there are, so that tests see many.
SEGMENT_BYTES = 64 * 1024
MAX_BYTES = 1 << 30


def new_driver(directory: Path, free: Callable[[Path], int] = free_bytes) -> FileDriver:
    return FileDriver(FileUrl(directory, 0, SEGMENT_BYTES, MAX_BYTES), free)


def opened(
    directory: Path, *, now: Micros = START, free: Callable[[Path], int] = free_bytes
) -> AbstractAsyncContextManager[FileDriver]:
    return open_store(new_driver(directory, free), now=now)


def live(driver: FileDriver) -> LiveStore:
    assert driver._opened is not None
    return driver._opened


def restored(directory: Path, frames: int | None = None) -> State:
    """What the journal (or so many frames of it) tells."""
    restoration = Restoration()
    for number, (_, _, records) in enumerate(Reader(directory).records()):
        if number == frames:
            break
        for record in records:
            restoration.apply(record)
    return restoration.finish(START)


def portrait(state: State) -> bytes:
    """All of it."""
    recorder = Recorder(state, START)
    for job_id in sorted(state.jobs):
        recorder.carry_job(job_id)
    for run in sorted(state.memory._runs):
        for memory in run:
            recorder.carry_memory(memory)
    for name in sorted(state.keys._held):
        recorder.carry_key(name)
    for name in sorted(state.tallies):
        recorder.carry_tally(name)
    for queue in sorted(state.queues):
        recorder.carry_queue(queue)
    return encode(recorder.finish())
