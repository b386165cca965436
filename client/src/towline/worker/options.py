"""The settings of a worker, checked before it touches anything."""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from towline.durations import Seconds, as_timedelta
from towline.errors import ConfigurationError, InvalidJob
from towline.worker.processes.limits import ChildLimits, parse_bytes

PoolName: TypeAlias = Literal["thread", "async", "process"]
Queues: TypeAlias = Sequence[str] | Mapping[str, int]

# Of what the operator of a broker can limit otherwise, the broker judges how much is too much.
MAX_CONCURRENCY = 10_000
MAX_PROCESSES = 1000
MAX_PREFETCH = 1000
PREFETCH = 250
"""Jobs that wait in a worker at most, unless another number is given."""

USUAL_LEASE = 30.0
"""Seconds: what a broker gives of which nothing else is set."""

_INT32 = 2**31 - 1
_LONGEST_WAIT = threading.TIMEOUT_MAX / 2
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_WORKER_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True)
class WorkerOptions:
    """All durations in seconds. A weight of None means strict order of the queues; a lease of None,
    for each job what the broker is set to give in its queue."""

    queues: tuple[tuple[str, int | None], ...]
    concurrency: int
    pool: PoolName
    lease: float | None
    worker_id: str
    max_jobs: int | None
    max_time: float | None
    drain_timeout: float
    guardian: bool = True
    wait: float = 20.0
    sleep: float = 0.0
    stop_when_empty: bool = False
    types: frozenset[str] | None = None
    max_attempts: int | None = None
    default_timeout: float | None = None
    max_memory: int | None = None
    health_file: str | None = None
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    processes: int = 1
    child_limits: ChildLimits = field(default_factory=ChildLimits)
    prefetch: int = PREFETCH


def make_options(
    *,
    queues: Queues,
    concurrency: int,
    pool: PoolName,
    lease: Seconds | None,
    worker_id: str | None,
    max_jobs: int | None,
    max_time: Seconds | None,
    drain_timeout: Seconds,
    guardian: bool,
    wait: Seconds,
    sleep: Seconds,
    stop_when_empty: bool,
    types: Iterable[object] | None,
    max_attempts: int | None,
    default_timeout: Seconds | None,
    max_memory: int | str | None,
    health_file: str | os.PathLike[str] | None,
    health_port: int | None,
    health_host: str,
    processes: int = 1,
    max_jobs_per_child: int | None = None,
    max_memory_per_child: int | str | None = None,
    prefetch: int = PREFETCH,
) -> WorkerOptions:
    """Check and normalize; raises ConfigurationError, naming the setting and what it may be."""
    if pool not in ("thread", "async", "process"):
        raise ConfigurationError(f'pool: expected "thread", "async" or "process", got {pool!r}')
    child_limits = _child_limits(max_jobs_per_child, max_memory_per_child)
    if child_limits != ChildLimits() and pool != "process" and processes == 1:
        raise ConfigurationError(
            "max_jobs_per_child, max_memory_per_child: there are children only with "
            'pool="process", or with several processes'
        )
    if max_jobs is not None and max_jobs_per_child is not None and pool != "process":
        raise ConfigurationError(
            "max_jobs: a process that ends after max_jobs is not replaced, and one that ends after "
            "max_jobs_per_child is; name one of the two"
        )
    if processes != 1 and not (max_memory is None and health_file is None and health_port is None):
        raise ConfigurationError(
            "max_memory, health_file, health_port: are for one process; of several, "
            "max_memory_per_child is the limit of each, and the supervisor has no health of its own"
        )
    return WorkerOptions(
        queues=_queues(queues),
        concurrency=_whole(concurrency, "concurrency", MAX_CONCURRENCY),
        pool=pool,
        lease=_lease(lease),
        worker_id=_worker_id(worker_id),
        max_jobs=None if max_jobs is None else _whole(max_jobs, "max_jobs", None),
        max_time=None if max_time is None else seconds(max_time, "max_time"),
        drain_timeout=seconds(drain_timeout, "drain_timeout"),
        guardian=_switch(guardian, "guardian"),
        wait=seconds(wait, "wait"),
        sleep=seconds(sleep, "sleep"),
        stop_when_empty=stop_when_empty,
        types=_types(types),
        max_attempts=None if max_attempts is None else _whole(max_attempts, "max_attempts", None),
        default_timeout=_default_timeout(default_timeout),
        max_memory=None if max_memory is None else parse_bytes(max_memory, "max_memory"),
        health_file=_path(health_file),
        health_port=_port(health_port),
        health_host=_host(health_host),
        processes=_whole(processes, "processes", MAX_PROCESSES),
        child_limits=child_limits,
        prefetch=_whole(prefetch, "prefetch", MAX_PREFETCH, minimum=0),
    )


def seconds(value: Seconds, name: str) -> float:
    """Check a duration; one that is longer than threads can wait is cut to that."""
    try:
        return min(as_timedelta(value, name).total_seconds(), _LONGEST_WAIT)
    except InvalidJob as error:
        raise ConfigurationError(str(error)) from None


def _queues(queues: object) -> tuple[tuple[str, int | None], ...]:
    if isinstance(queues, str):
        raise ConfigurationError(f"queues: expected a list of names, got a string: [{queues!r}]?")
    if isinstance(queues, Mapping):
        choices: list[tuple[str, int | None]] = [
            (name, _whole(weight, f"queues[{name!r}]", _INT32)) for name, weight in queues.items()
        ]
    elif isinstance(queues, Iterable):
        choices = [(name, None) for name in queues]
    else:
        raise ConfigurationError(
            f"queues: expected a list of names, or a mapping of names to weights, got {queues!r}"
        )
    if not choices:
        raise ConfigurationError("queues: expected at least one name, got none")
    names: list[object] = [name for name, _ in choices]
    for name in names:
        if not isinstance(name, str) or not _QUEUE.fullmatch(name):
            raise ConfigurationError(
                f"queues: {name!r} is no queue name: expected 1 to 128 characters of "
                "A-Z a-z 0-9 . _ : -, the first a letter or digit"
            )
        if names.count(name) > 1:
            raise ConfigurationError(f"queues: {name!r} is named twice")
    return tuple(choices)


def _whole(value: object, name: str, maximum: int | None, minimum: int = 1) -> int:
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < minimum
        or (maximum is not None and value > maximum)
    ):
        bound = "of at least 1" if maximum is None else f"from {minimum} to {maximum}"
        raise ConfigurationError(f"{name}: expected a whole number {bound}, got {value!r}")
    return value


def _lease(value: Seconds | None) -> float | None:
    if value is None:
        return None
    length = seconds(value, "lease")
    if length <= 0:
        raise ConfigurationError(f"lease: expected more than 0 seconds, got {length:g} s")
    return length


def _default_timeout(value: Seconds | None) -> float | None:
    if value is None:
        return None
    timeout = seconds(value, "default_timeout")
    if timeout <= 0:
        raise ConfigurationError(f"default_timeout: expected seconds > 0, got {value!r}")
    return timeout


def _types(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"types: expected a list of job types, got {value!r}")
    # A Job class or a function with @job stands for its type.
    named: list[object] = [
        getattr(getattr(each, "job_class", each), "job_type", each) for each in value
    ]
    types = [each for each in named if isinstance(each, str) and each]
    if len(types) < len(named):
        wrong = next(each for each in named if each not in types)
        raise ConfigurationError(f"types: {wrong!r} is no job type, nor a Job class")
    if not types:
        raise ConfigurationError("types: an empty list would run nothing; leave it out for all")
    return frozenset(types)


def _path(value: object) -> str | None:
    if value is None or (isinstance(value, (str, os.PathLike)) and os.fspath(value)):
        return None if value is None else os.fspath(value)
    raise ConfigurationError(f"health_file: expected a path, got {value!r}")


def _port(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise ConfigurationError(f"health_port: expected a number from 0 to 65535, got {value!r}")
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"health_host: expected a name or an address, got {value!r}")
    return value


def _switch(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}: expected True or False, got {value!r}")
    return value


def _child_limits(max_jobs: int | None, max_memory: int | str | None) -> ChildLimits:
    return ChildLimits(
        None if max_jobs is None else _whole(max_jobs, "max_jobs_per_child", None),
        None if max_memory is None else parse_bytes(max_memory, "max_memory_per_child"),
    )


def _worker_id(given: object) -> str:
    if given is not None:
        if not isinstance(given, str) or not _WORKER_ID.fullmatch(given):
            raise ConfigurationError(
                "worker_id: expected 1 to 128 printable ASCII characters without spaces, "
                f"got {given!r}"
            )
        return given
    host = re.sub(r"[^!-~]", "-", socket.gethostname())[:80] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
