"""From the lines of an export into a store: batch by batch, and as often as it takes.

While jobs of a queue come in, the queue is sealed, as one that moves to another store: workers get
nothing from it, and all else goes on. The seal names the file. So an import that was cut off leaves
queues from which nobody has taken anything, and when it is made again, each job that is there
already is passed over by its id. At the end all of the queues are opened.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from towline_broker.archive.exporting import wanted
from towline_broker.archive.jobs import transfer_of
from towline_broker.archive.lines import JobLine, QueueLine
from towline_broker.archive.needs import Needs, lacking
from towline_broker.archive.reading import Archive, BadArchive, Contents
from towline_broker.archive.stores import OpenStore
from towline_broker.core.clock import SystemClock
from towline_broker.domain.errors import NotSupported, QueueMoved, TowlineError
from towline_broker.domain.jobs import JobRecord, JobState, NewJob
from towline_broker.domain.time import HOUR
from towline_broker.drivers.interface import Capabilities, Driver, Standing, Transfer

#: Of a batch.
MOST_JOBS = 500
MOST_BYTES = 4 * 1024 * 1024
#: In the name that a seal has; no store can be called so.
MARK = "import:"
_FIRST_JOBS = UUID("6f1d8a3e-58a5-4c55-8d2e-0f7f3c6f4a10")


class Busy(TowlineError):
    """A queue of the target is on its way elsewhere. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which queues are imported, and under which names."""

    patterns: Sequence[str] = ()
    #: Old name to new.
    renamed: Mapping[str, str] = field(default_factory=dict)

    def name_of(self, queue: str) -> str | None:
        """None: it is left out."""
        return self.renamed.get(queue, queue) if wanted(queue, self.patterns) else None


@dataclass(slots=True)
class Plan:
    """What an import is going to do."""

    #: Marks queues that are under way.
    seal: str
    #: Jobs by the queue that they go to.
    jobs: Counter[str]
    paused: set[str]
    #: By queue, a type that its jobs have or had.
    types: dict[str, str]
    needs: Needs

    @property
    def queues(self) -> list[str]:
        """Those that get jobs or are paused."""
        return sorted({*self.jobs, *(queue for queue in self.paused if queue in self.types)})


@dataclass(slots=True)
class Imported:
    stored: int = 0
    #: They were there already, or the store remembers them as ended.
    known: int = 0


def plan(archive: Archive, contents: Contents, choice: Choice, store: Capabilities) -> Plan:
    """Raises BadArchive if two queues were to become one, in which no order would be right."""
    made = Plan(f"{MARK}{contents.digest[:16]}", Counter(), set(), {}, Needs())
    for queue in contents.queues:
        name = choice.name_of(queue.name)
        if name is None:
            continue
        if name in made.types:
            raise BadArchive(f"two queues would be called {name!r}: rename them apart")
        _plan_queue(made, queue, name, contents.jobs[queue.name])
    chosen = (job for job in archive.jobs() if choice.name_of(job.queue) is not None)
    made.needs = Needs.of(chosen, sizes=store.max_envelope is not None)
    return made


def _plan_queue(made: Plan, queue: QueueLine, name: str, jobs: int) -> None:
    made.types[name] = queue.types[0] if queue.types else ""
    if jobs:
        made.jobs[name] = jobs
    if queue.paused:
        made.paused.add(name)


def refuse_unfit(made: Plan, store: Capabilities) -> None:
    """Raises Unfit for what the store cannot keep."""
    found = lacking(made.needs, store, SystemClock().now())
    if found:
        raise Unfit(store.name, found)


class Unfit(NotSupported):
    """Each thing that the store cannot keep. Nothing was changed."""

    def __init__(self, store: str, found: Sequence[str]) -> None:
        super().__init__(store, "what these jobs need")
        self.found = found


async def import_into(
    store: OpenStore,
    archive: Archive,
    made: Plan,
    choice: Choice,
    tell: Callable[[int], None],
) -> Imported:
    """Stores what the plan says, and opens the queues when all is there.

    ``tell`` hears now and then how many jobs were brought. Raises Busy, Full (what came before is
    stored, and the same import goes on from there), StoreError.
    """
    driver = store.driver
    states = {state.name: state for state in await driver.queues()}
    await refuse_moving(driver, made)
    for queue in made.queues:
        await _seal(store, queue, made, queue in states)
    done = Imported()
    for batch in _batches(archive.jobs(), choice, store):
        stored = await driver.receive(batch, store.clock.now())
        done.stored += stored
        done.known += len(batch) - stored
        tell(done.stored + done.known)
    for queue in made.queues:
        if queue in made.paused:
            await driver.set_paused(queue, True)
        await driver.seal(queue, None)
    return done


async def refuse_moving(driver: Driver, made: Plan) -> None:
    """Raises Busy and QueueMoved."""
    states = {state.name: state for state in await driver.queues()}
    for queue in made.queues:
        state = states.get(queue)
        if state is None or state.moving_to in ("", made.seal):
            continue
        if state.moving_to.startswith(MARK):
            raise Busy(
                f"queue {queue!r} waits for the rest of another file, of which an import was cut "
                "off: finish that one, or give it up with --abandon"
            )
        if state.moved:
            raise QueueMoved(queue, state.moving_to)
        raise Busy(
            f"queue {queue!r} is on its way to store {state.moving_to!r}: finish that before, with "
            f"`towline-broker move {queue}`"
        )


async def _seal(store: OpenStore, queue: str, made: Plan, exists: bool) -> None:
    driver, now = store.driver, store.clock.now()
    # A queue comes into being with its first job, which nobody may take before it is sealed: so
    # it is one that has ended, and goes again at once (or when this import is made again).
    job_id = str(uuid5(_FIRST_JOBS, f"{made.seal} {queue}"))
    first = NewJob(job_id, queue, made.types[queue], retention=HOUR)
    record = JobRecord(
        *(first.id, queue, first.type, b"", 0, JobState.CANCELLED, 0, now), finished_at=now
    )
    if not exists:
        await driver.receive([Transfer(first, record, keep_until=now + HOUR)], now)
    await driver.seal(queue, made.seal)
    await driver.drop(queue, [Standing.of(record)])


def _batches(jobs: Iterable[JobLine], choice: Choice, store: OpenStore) -> Iterator[list[Transfer]]:
    batch: list[Transfer] = []
    size = 0
    for job in jobs:
        queue = choice.name_of(job.queue)
        if queue is None:
            continue
        transfer = transfer_of(job, queue, store.clock.now())
        batch.append(transfer)
        size += len(transfer.new.envelope)
        if len(batch) >= MOST_JOBS or size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def abandon(driver: Driver) -> list[str]:
    """Opens queues that imports have left sealed, with what they hold; returns their names."""
    left = [state.name for state in await driver.queues() if state.moving_to.startswith(MARK)]
    for queue in left:
        await driver.seal(queue, None)
    return left
