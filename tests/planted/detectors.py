"""What is set on a broken copy, each as a command with a bound: parts of the fault suite, and tests
of other rooms where they stop the code at the very moment that a fault would have to meet.

They are the same that are run on the sound code, at a small size. Nothing here knows of a bug.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.planted.catalogue import PROMISES
from tests.planted.workshop import Workshop


class Verdict(StrEnum):
    GREEN = "green"
    FOUND = "found"
    #: What it needs is missing here.
    SKIPPED = "skipped"
    #: It ended in another way than a detector may: that proves nothing.
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    seconds: float
    #: Those that it says are broken.
    promises: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class Detector:
    #: For ``python``; ``{seed}`` stands for the seed.
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: How long it may take.
    seconds: float = 120.0

    def run(self, workshop: Workshop, seed: int) -> Finding:
        environment = workshop.environment | dict(self.environment) | {"TOWLINE_SEED": str(seed)}
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="towline-detector-") as folder:
            # Servers may run as another user.
            Path(folder).chmod(0o755)
            environment["TMPDIR"] = folder
            code, output = _run(
                [sys.executable, *(each.format(seed=seed) for each in self.arguments)],
                workshop.root,
                environment,
                self.seconds,
            )
        took = time.monotonic() - start
        return Finding(_verdict(code, output), took, promises_in(output), output)


def _run(
    command: list[str], folder: Path, environment: dict[str, str], seconds: float
) -> tuple[int | None, str]:
    """The exit code (None: it did not come to an end) and all that it said."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Brokers and servers that it has started and not stopped go with it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return code, said.read()


#: What is said of a violation: by the simulation, and by pytest of a test that ran and failed.
_EVIDENCE = re.compile(r"^(violations: [1-9]|FAILED )", re.MULTILINE)


def _verdict(code: int | None, output: str) -> Verdict:
    if code == 1 and _EVIDENCE.search(output):
        return Verdict.FOUND
    if code != 0:
        return Verdict.BROKEN
    only_skipped = re.search(r"\d+ skipped", output) and not re.search(r"\d+ passed", output)
    return Verdict.SKIPPED if only_skipped else Verdict.GREEN


_PROMISE = rf"\b(?:{'|'.join(PROMISES)})\b"
#: How the checker, the simulation and a test begin a line that tells of a violation.
_TOLD = re.compile(rf"^(?:.*VIOLATION |E? +)?(?:\w*Error: )?(?:.*: )?{_PROMISE}[^:]*: ")


def promises_in(output: str) -> tuple[str, ...]:
    """The promises that the output says are broken, each once: of what tells of violations, or else
    by the names of the tests that failed."""
    lines = output.splitlines()
    told = [match[0] for line in lines if (match := _TOLD.match(line))]
    told = told or [line for line in lines if line.startswith("E ")]
    named = [name for line in told for name in re.findall(_PROMISE, line)]
    failed = [line for line in lines if line.startswith("FAILED")]
    named = named or [f"P{number}" for line in failed for number in re.findall(r"_p(\d+)_", line)]
    return tuple(dict.fromkeys(named))


def _pytest(
    file: str, chosen: str, seconds: float = 180.0, room: str = "faults", **sizes: int
) -> Detector:
    """Of a file in a room of the tests those whose names match, at these sizes."""
    options = ("-q", "-x", "-n", "0", "-p", "no:cacheprovider", "--tb=short")
    sized = {f"TOWLINE_{name}": str(size) for name, size in sizes.items()}
    arguments = ("-m", "pytest", *options, f"tests/{room}/{file}.py", "-k", chosen)
    return Detector(arguments, sized, seconds)


def _simulation(store: str, schedules: int) -> Detector:
    options = ("--store", store, "--schedules", str(schedules), "--seed", "{seed}", "--no-shrink")
    return Detector(("-m", "tests.simulation", *options), seconds=300.0)


_KILLS = "whenever_the_broker_is_killed and mixed and {}"

DETECTORS: dict[str, Detector] = {
    "simulation-memory": _simulation("memory", 600),
    "simulation-file": _simulation("file", 600),
    **{
        f"kills-{store}": _pytest("test_broker_kills", _KILLS.format(store), KILLS=3)
        for store in ("file", "sqlite", "postgresql", "mariadb", "redis")
    },
    **{
        f"shared-{store}": _pytest("test_shared_stores", f"mixed and {store}", SHARED_JOBS=2_000)
        for store in ("postgresql", "mariadb", "redis")
    },
    **{
        f"orphans-{store}": _pytest("test_orphans", store)
        for store in ("file", "postgresql", "redis")
    },
    **{
        f"power-cuts-{store}": _pytest("test_power_loss", store, POWER_CUTS=20)
        for store in ("file", "sqlite")
    },
    **{
        f"crash-points-{store}": _pytest("test_crash_points", f"{store} and p1", CRASH_POINTS=40)
        for store in ("file", "sqlite")
    },
    **{
        f"bad-network-{store}": _pytest("test_cut_replies", store, NETWORK_ROUNDS=1)
        for store in ("file", "sqlite", "postgresql", "mariadb", "redis")
    },
    **{
        f"store-faults-{store}": _pytest("test_database_faults", store)
        for store in ("postgresql", "mariadb")
    },
    **{f"outages-{store}": _pytest("test_outages", store) for store in ("file", "sqlite")},
    **{
        f"news-{store}": _pytest("test_prompt_news", store)
        for store in ("sqlite", "postgresql", "redis")
    },
    **{
        f"last-moment-{store}": _pytest("test_last_moment_heartbeats", store)
        for store in ("file", "postgresql", "redis")
    },
    "last-moment-stopped": _pytest("test_last_moment_heartbeats", "look_for_it or just_being"),
    "racing-pushes-postgresql": _pytest("test_postgresql", "pushed_at_both", room="contract"),
    "racing-pushes-mariadb": _pytest("test_mysql", "pushed_at_both", room="contract"),
    "slow-looks": _pytest("test_sql_races", "looks_begin_later", room="drivers"),
    "storms-of-claims": _pytest("test_sql_races", "storm and postgres", room="drivers"),
    "late-repeats": _pytest("test_postgresql_races", "settled_while_its_push", room="drivers"),
    "reserve-file": _pytest("test_file_disk", "p11 and full_disk", room="drivers"),
    "reserve-sqlite": _pytest("test_sqlite_disk", "reserve", room="drivers"),
    "held-leases": _pytest("test_sqlite_held", "heartbeat", room="drivers"),
    "workers-of-all-brokers": _pytest("test_workers_of_all_brokers", "redis"),
    "sdk-client": _pytest("test_sdk_on_bad_networks", "bad_network"),
    "sdk-streams": _pytest("test_streaming", "p1 or p3", room="sdk"),
    "sdk-reserver": _pytest("test_worker_reserving", "got_lost or on_their_way", room="sdk"),
    "sdk-settler": _pytest("test_worker_settling", "without_an_answer", room="sdk"),
    "lost-commits-postgresql": _pytest("test_lost_commits", "postgresql"),
    "rushes": _pytest("test_rushes_on_a_slow_store", "test"),
    "together": _pytest("test_memory_together", "test", room="contract"),
    "waiting": _pytest("test_waiting_and_waking", "test", room="core"),
    "full-disk-file": _pytest("test_full_disk", "file"),
    "damage-file": _pytest("test_damaged_files", "file"),
    "sdk-worker": _pytest("test_worker_on_a_bad_network", "test", NETWORK_ROUNDS=3),
    "moves-and-kills": _pytest("test_moves_and_kills", "test"),
    **{
        f"requeues-{store}": _pytest(f"test_{store}", "a_requeued_job_starts_over", room="contract")
        for store in ("sqlite", "redis")
    },
    "repeats-redis": _pytest("test_redis", "repeated_after_the_job_was_done", room="contract"),
    "ready-lines": _pytest("test_ready_lines", "test", room="drivers"),
    "deadlocks-postgresql": _pytest(
        "test_sql_faults", "real_deadlock and postgresql", room="drivers"
    ),
    "moves-at-crash-points": _pytest("test_crash_points", "arrives_once", CRASH_POINTS=40),
    "push-streams": _pytest("test_push_streams", "order or survives", room="service"),
    "work-streams": _pytest("test_work_streams", "go_back or goes_back or is_lost", room="service"),
    "clock-jumps": _pytest("test_clock_jumps", "p10 and (file or worker)"),
}
