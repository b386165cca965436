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
        {"KILLS": (8, 170)},
    ),
    "shared": Family(
        "kill -9 of brokers, workers and masters over shared stores; moves, several processes",
        [
            _tests("shared_stores", "moves_and_kills", "processes_and_kills"),
            _tests("workers_of_all_brokers"),
        ],
        {"SHARED_JOBS": (5000, 100_000)},
    ),
    "power": Family(
        "power cuts on the stores in files; needs root",
        [(*_tests("power_loss"), "-n", "2")],
        {"POWER_CUTS": (40, 250)},
    ),
    "crash-points": Family(
        "an end or a failure at every call that changes a file, full disks, disks that fail",
        [(*_tests("crash_points", "full_disk", "disk_errors"), "-n", "2")],
        {"CRASH_POINTS": (100, 0)},
    ),
    "damage": Family(
        "bits flipped and files cut short, at every place",
        [(*_tests("damaged_files"), "-n", "2")],
        {"DAMAGE": (500, 0), "DAMAGED_BITS": (300, 20_000)},
    ),
    "lost-replies": Family(
        "calls whose reply was lost, repeated",
        [_tests("lost_replies")],
        {"LOST_REPLIES": (2000, 100_000)},
    ),
    "networks": Family(
        "bad and parted networks, stopped processes, leases at their last moment",
        [
            _tests("cut_replies", "sdk_on_bad_networks", "worker_on_a_bad_network"),
            _tests("partitions", "outages", "prompt_news"),
            _tests("stopped_processes", "last_moment_heartbeats", "rushes_on_a_slow_store"),
        ],
        {"NETWORK_ROUNDS": (1, 3), "PARTITIONS": (1, 3), "STOPS": (1, 10)},
    ),
    "stores": Family(
        "crashes, restarts, ended sessions, refused transactions and failovers of store servers",
        [_tests("database_faults", "lost_commits", "redis_faults")],
        {"STORE_FAULTS": (1, 20), "FAILOVERS": (1, 5), "IDLE_SECONDS": (10, 600)},
    ),
    "clocks": Family(
        "wall clocks of every part that are set by hours",
        [_tests("clock_jumps")],
        {"CLOCK_JUMPS": (6, 60)},
    ),
    "rolling": Family(
        "brokers that are restarted one by one under load, also behind load balancers",
        [_tests("rolling_restarts", "rolling_behind_balancers")],
        {"ROLLS": (2, 10)},
    ),
    "orphans": Family(
        "how soon the jobs of a killed worker are back, over every store",
        [_tests("orphans")],
        {"ORPHANS": (40, 200)},
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
    "bad-peers": Family(
        "clients that break the rules of HTTP/2 and gRPC, and thousands that wait",
        [_tests("bad_peers", "many_connections")],
        {"ATTACK_SECONDS": (3, 10), "IDLE": (3000, 10_000), "PARKED": (2000, 5000)},
    ),
    "planted": Family(
        "bugs planted in a copy of the code and in stores, to see that the suite finds each",
        [
            ("tests.planted", "--seed", "{seed}"),
            (*_PYTEST, "tests/contract/test_suite_catches_planted_bugs.py"),
        ],
        {"LATE_BUGS": (1, 1)},
    ),
    "overload": Family(
        "pushes at ten times the rate that a store can take",
        [_tests("overload")],
        {
            "OVERLOAD_SECONDS": (6, 6),
            "OVERLOAD_ROUNDS": (1, 4),
            "OVERLOAD_BATCH": (1000, 1000),
            "OVERLOAD_LEAST": (50, 90),
            "OVERLOAD_EVERY": (0, 1),
        },
    ),
}
