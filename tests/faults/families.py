"""The families of faults: what `make faults` runs of each, in a representative hour and in full.

Full is what stands in docs/reliability.md, and takes half a day on two cores.
"""

from collections.abc import Sequence
from typing import NamedTuple

_PYTEST = ("pytest", "-q", "--timeout", "14400")


class Family(NamedTuple):
    about: str
    #: Modules that Python runs, with their arguments; {seed} and the names of sizes are filled in.
    commands: Sequence[Sequence[str]]
    #: Handed on as variables TOWLINE_<name>: in an hour of all families, and in full.
    sizes: dict[str, tuple[int, int]]


def _tests(*names: str) -> tuple[str, ...]:
    return *_PYTEST, *(f"tests/faults/test_{name}.py" for name in names)


FAMILIES: dict[str, Family] = {
    "checker": Family(
        "the checker, by histories with planted violations, and honest ones",
        [(*_PYTEST, "tests/faults/harness")],
        {},
    ),
    "simulation": Family(
        "seeded schedules of broker, clients, network and disk, in simulated time",
        [("tests.simulation", "--seed", "{seed}", "--seconds", "{SIMULATED}")],
        {"SIMULATED": (300, 3600)},
    ),
    "kills": Family(
        "kill -9 of the broker under load, over every durable store",
        [_tests("broker_kills")],
        {"KILLS": (12, 170)},
    ),
    "shared": Family(
        "kill -9 of brokers, workers and masters over shared stores; moves, several processes",
        [_tests("shared_stores", "moves_and_kills", "processes_and_kills")],
        {"SHARED_JOBS": (5000, 100_000)},
    ),
    "power": Family(
        "power cuts on the stores in files",
        [_tests("power_loss")],
        {"POWER_CUTS": (50, 250)},
    ),
    "crash-points": Family(
        "an end or a failure at every call that changes a file",
        [(*_tests("crash_points"), "-n", "2")],
        {"CRASH_POINTS": (100, 0)},
    ),
    "lost-replies": Family(
        "calls whose reply was lost, repeated",
        [_tests("lost_replies")],
        {"LOST_REPLIES": (3000, 100_000)},
    ),
    "networks": Family(
        "bad and parted networks, stopped processes",
        [
            _tests("cut_replies", "sdk_on_bad_networks", "worker_on_a_bad_network"),
            _tests("partitions", "stopped_processes", "outages", "prompt_news"),
        ],
        {"NETWORK_ROUNDS": (1, 3), "PARTITIONS": (1, 3), "STOPS": (2, 10)},
    ),
    "stores": Family(
        "crashes, restarts, ended sessions, refused transactions and failovers of store servers",
        [_tests("database_faults", "redis_faults")],
        {"STORE_FAULTS": (2, 20), "FAILOVERS": (1, 5)},
    ),
    "clocks": Family(
        "wall clocks of every part that are set by hours",
        [_tests("clock_jumps")],
        {"CLOCK_JUMPS": (12, 60)},
    ),
    "orphans": Family(
        "how soon the jobs of a killed worker are back, over every store",
        [_tests("orphans")],
        {"ORPHANS": (50, 200)},
    ),
    "sigterms": Family(
        "workers of the SDK that are told to stop at any moment",
        [_tests("worker_sigterms")],
        {"SIGTERMS": (100, 1000)},
    ),
    "fuzz": Family(
        "every call, the journal and the parsers, with bytes that nobody means",
        [("tests.fuzz", "--messages", "{FUZZED}", "--seed", "{seed}")],
        {"FUZZED": (500_000, 10_000_000)},
    ),
}
