"""What happens in a schedule, all of it drawn from one number beforehand.

An operation draws its own details from its own number. So operations can be left out, to find a
shorter schedule that fails, and the others stay what they were.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum
from random import Random
from typing import Literal

Store = Literal["memory", "file"]
STORES: tuple[Store, ...] = ("memory", "file")


class Kind(Enum):
    # --- of producers and operators ---
    PUSH = "push"
    CANCEL = "cancel"
    REQUEUE = "requeue"
    DISCARD = "discard"
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    WAIT_FOR_END = "wait for the end of a job"
    # --- of workers ---
    WORK = "work"
    RUSH = "rush"
    #: Two workers, or one that comes to itself again, use the same old lease.
    STALE = "settle once more"
    # --- of the world ---
    KILL = "kill -9"
    POWER = "loss of power"
    STOP = "SIGTERM"
    WALL_CLOCK = "wall clock"
    DISK_ERROR = "disk error"
    PARTITION = "partition"


@dataclass(frozen=True, slots=True)
class Operation:
    number: int
    #: Whoever does it does one after the other; what the world does, it does on its own.
    actor: str
    kind: Kind
    #: Seconds before it begins.
    pause: float

    def __str__(self) -> str:
        return f"{self.number}: {self.actor} {self.kind.value} (after {self.pause:.3f} s)"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Times are in seconds."""

    store: Store
    #: Callbacks run in asyncio's order.
    in_order: bool
    #: Mean time that a callback takes.
    step: float
    #: The wall clock of the broker's machine is set now and then.
    wall_jumps: bool
    queues: int
    #: Mean time of a message on its way, and the share that never arrives.
    delay: float
    loss: float
    #: Share of the calls that their client gives up in the middle, and does not repeat.
    vanishing: float
    #: Of the disk.
    pace: float
    segment_bytes: int
    #: So many segments fit on it.
    disk_segments: int
    short_writes: float
    #: Calls ask for as much room as they need and hardly more, and compaction begins at once: so it
    #: has something to do in a short schedule.
    tiny_journal: bool
    #: Most bytes of a payload.
    payload: int
    retention: float
    settle_memory: float
    max_queue_depth: int


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    #: Turns the dice of everything but the operations; for shrinking.
    salt: int
    conditions: Conditions
    operations: tuple[Operation, ...]

    def rng(self, purpose: str) -> Random:
        return Random(f"{self.seed}/{self.salt}/{purpose}")

    def rng_of(self, operation: Operation) -> Random:
        return Random(f"{self.seed}/{operation.number}")

    def keeping(self, numbers: Collection[int], salt: int) -> "Plan":
        kept = tuple(each for each in self.operations if each.number in numbers)
        return replace(self, operations=kept, salt=salt)


#: Longer than any jump of the wall clock, in seconds; a restart takes it for the truth.
_DAYS = 1_000_000.0
#: Longer than anybody repeats a call.
_SHORT_MEMORY = 30.0


def drawn(seed: int, store: Store) -> Plan:
    rng = Random(f"{seed}/plan")
    wall_jumps = rng.random() < 0.3
    tiny_journal = rng.random() < 0.7
    conditions = Conditions(
        store=store,
        in_order=rng.random() < 0.4,
        step=rng.choice((0.0, 0.0, 0.00001, 0.0001)),
        wall_jumps=wall_jumps,
        queues=rng.choice((1, 1, 2)),
        delay=rng.choice((0.0005, 0.005, 0.1)),
        loss=rng.choice((0.0, 0.0, 0.02, 0.15)),
        vanishing=rng.choice((0.0, 0.0, 0.1, 0.5)),
        # Where room is made all the time, a slow disk is too slow for P8.
        pace=rng.choice((0.0001, 0.001, 0.001 if tiny_journal else 0.01)),
        segment_bytes=rng.choice((2, 4)) * 1024 if tiny_journal else 64 * 1024,
        tiny_journal=tiny_journal,
        disk_segments=1 << 20 if tiny_journal else rng.choice((1 << 20, 4, 5)),
        payload=400 if tiny_journal else rng.choice((400, 8_000)),
        short_writes=rng.choice((0.0, 0.0, 0.3)),
        retention=rng.choice((0.0, _DAYS)),
        settle_memory=_DAYS if wall_jumps else rng.choice((600.0, _SHORT_MEMORY)),
        max_queue_depth=rng.choice((1_000, 1_000, 1_000, 12)),
    )
    return Plan(seed, 0, conditions, tuple(_operations(rng, conditions)))


def _operations(rng: Random, conditions: Conditions) -> list[Operation]:
    found: list[Operation] = []

    def add(actor: str, kind: Kind, mean_pause: float) -> None:
        found.append(Operation(len(found), actor, kind, rng.expovariate(1 / mean_pause)))

    # Where little happens, nothing else wakes who waits in vain.
    hurry = rng.choice((0.01, 0.1, 0.5, 2.0))
    # Where much happens, a journal is compacted.
    most = rng.choice((7, 7, 7, 20))
    for producer in range(rng.choice((1, 2))):
        for _ in range(rng.randrange(1, most)):
            kinds, weights = (Kind.PUSH, Kind.CANCEL, Kind.WAIT_FOR_END), (8, 1, 1)
            add(f"producer-{producer}", rng.choices(kinds, weights)[0], hurry)
    for worker in range(rng.choice((1, 2, 2, 3))):
        for _ in range(rng.randrange(1, most)):
            kind = rng.choices((Kind.WORK, Kind.STALE), (6, 1))[0]
            add(f"worker-{worker}", kind, hurry / 2)
    operator = (Kind.PAUSE, Kind.RESUME, Kind.PURGE, Kind.REQUEUE, Kind.DISCARD)
    for _ in range(rng.choice((0, 0, 2, 5))):
        add("operator", rng.choices(operator, (3, 3, 1, 4, 3))[0], 4 * hurry)
    for _ in range(rng.choice((0, 0, 0, 3))):
        add("crowd", Kind.RUSH, hurry)
    faults = [Kind.PARTITION]
    if conditions.wall_jumps:
        faults += [Kind.WALL_CLOCK, Kind.WALL_CLOCK]
    if conditions.store == "file":
        faults += [Kind.STOP, Kind.KILL, Kind.POWER, Kind.KILL, Kind.POWER, Kind.DISK_ERROR]
    for number in range(rng.choice((0, 1, 2, 4))):
        add(f"world-{number}", rng.choice(faults), 8 * hurry)
    return found
