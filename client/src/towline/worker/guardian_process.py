"""What the guardian of a worker runs, as a program of its own: see towline.worker.guardian.

    python -I -S guardian_process.py LEDGER_FD LEDGER_BYTES HUNG_AFTER

It is meant to cost next to nothing while all is well, so up here it imports the standard library
only, and of that what is small. It sleeps, looks now and then at the ledger, which is memory that
it shares with its worker, and loads gRPC the first time that a heartbeat is overdue.

Standard input brings, after its length, how to reach the broker; then a byte whenever it is to look
at once, because a lease is shorter than those before. Its end is the end of the worker.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Broker(Protocol):
        """Both tell the seconds that are left of each lease, and nothing if it does not answer
        within ``timeout`` seconds."""

        def heartbeat(self, tokens: list[str], timeout: float) -> dict[str, float | None]:
            """None for a lease that is no longer held."""

        def call_home(self, request_id: str, timeout: float) -> dict[str, float | None]:
            """End the Reserve that waits for jobs; returns what it was granted before."""


# The ledger: a header, then slots of equal size.
HEADER = struct.Struct("<dId")
"""When the worker last showed that it is well (time.monotonic()), how many slots are in use or
were, and the seconds of its shortest lease so far, or of a usual one."""
ASKING = struct.Struct("<36s")
ASKING_AT = 24
"""Where the header has the id of the Reserve that the worker made last, and waits for perhaps."""
HEADER_SIZE = 64
SLOT = struct.Struct("<dddB")
"""Deadline of the lease, its length in seconds, the time after which it is not to be kept, size of
its token; 0: free. The token follows."""
SLOT_SIZE = 256
MAX_TOKEN = SLOT_SIZE - SLOT.size

LENGTH = struct.Struct("<I")
"""Before the message on standard input."""

LONGEST_NAP = 30.0
"""Seconds after which it looks whether its parent is still there."""

STOPPED = frozenset("TtZXx")
"""States of a process in /proc and ps: stopped by a signal or a debugger, or dead."""

NO_QUEUE = "no-queue-while-stuck"
"""A queue without jobs, for a Reserve that is to take none."""

SHORTEST_LEASE = 1.0
"""Seconds, as brokers grant them: what is less is the rest of one that came late."""

CALL_TIMEOUT = 5.0
"""Seconds that a call to the broker may take; a third of the shortest lease if that is less, but no
less than one."""

BUSY = 0.01
"""Share of one processor below which a process counts as doing nothing."""


class Worker:
    """The process that is watched: whether it still deserves that its leases are kept."""

    def __init__(self, pid: int, hung_after: float) -> None:
        self.pid = pid
        self._hung_after = hung_after
        self._looked_at: tuple[float, float] | None = None
        self._busy_at = 0.0

    def seen_well(self) -> None:
        self._looked_at = None

    def is_here(self) -> bool:
        return os.getppid() == self.pid

    def is_hung(self, now: float, longest_lease: float) -> bool:
        """Whether it has used no processor for so long that it will hardly go on.

        A handler that waits in C code and holds the GIL uses none either, so this takes patience.
        """
        used = processor_seconds(self.pid)
        if self._looked_at is None:
            self._busy_at = now
        else:
            at, before = self._looked_at
            if used - before > BUSY * (now - at):
                self._busy_at = now
        self._looked_at = now, used
        return now - self._busy_at > max(self._hung_after, 10 * longest_lease)

    def is_stopped(self) -> bool:
        return process_state(self.pid) in STOPPED


def process_state(pid: int) -> str:
    """One letter; "X" when there is no such process."""
    fields = _proc_stat(pid)
    if fields is not None:
        return fields[0]
    return (_ps(pid, "state=") or "X")[0]


def processor_seconds(pid: int) -> float:
    """That it has used so far."""
    fields = _proc_stat(pid)
    if fields is not None:
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    seconds = 0.0
    for part in _ps(pid, "time=").replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds


def _proc_stat(pid: int) -> list[str] | None:
    """The fields from the state on; None where there is no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is large
            # The name of the program before it stands in parentheses and may hold anything.
            return file.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None


def _ps(pid: int, column: str) -> str:
    import subprocess

    command = ["ps", "-o", column, "-p", str(pid)]
    told = subprocess.run(  # noqa: S603 - a command of our own, and no shell
        command, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


class Guardian:
    """``look`` is called again and again, each time when it asked for it."""

    def __init__(
        self,
        ledger: mmap.mmap,
        worker: Worker,
        connect: Callable[[], Broker],
        say: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._worker = worker
        self._connect = connect
        self._say = say
        self._broker: Broker | None = None
        self._word = 0.0
        # Of each lease its deadline and its length.
        self._kept: dict[str, tuple[float, float]] = {}
        self._granted: dict[str, tuple[float, float]] | None = None
        self._lost: set[str] = set()
        self._told: set[str] = set()
        self._not_before = 0.0

    def look(self, now: float) -> float:
        """Keep the leases if the worker does not; return the seconds to the next look."""
        word: float
        shortest: float
        word, used, shortest = HEADER.unpack_from(self._ledger)
        if word != self._word:
            self._word = word
            self._kept.clear()
            self._granted = None
            self._lost.clear()
            self._told.clear()
            self._not_before = 0.0
            self._worker.seen_well()
        # A lease that is granted from now on has its half no sooner, or comes with a byte.
        nap = min(max(shortest, SHORTEST_LEASE) / 4, LONGEST_NAP)
        held = self._held(used, now)
        if not held:
            return nap
        shortest = max(SHORTEST_LEASE, min(length for _, length in held.values()))
        longest = max(length for _, length in held.values())
        # The worker's own heartbeat comes when a third is over, and may take its time.
        due = min(deadline - length / 2 for deadline, length in held.values())
        due = max(due, word + shortest / 4, self._not_before)
        if now < due:
            return min(due - now, nap)
        self._not_before = now + shortest / 6
        if self._worker.is_stopped():
            self._say_once("is stopped: its leases are not kept")
        elif self._worker.is_hung(now, longest):
            self._say_once("has done nothing for too long: its leases are not kept any more")
        else:
            self._say_once(f"does not send heartbeats: keeping its leases ({len(held)} now)")
            self._keep(list(held), used, now, max(1.0, min(CALL_TIMEOUT, shortest / 3)))
        return 0.0

    def _held(self, used: int, now: float) -> dict[str, tuple[float, float]]:
        """Deadline and length of each lease that is to be kept. Those that were on their way to the
        worker count beside others, not for themselves."""
        never = 0.0, 0.0
        held = {
            token: max(lease, self._kept.get(token, never))
            for token, lease, until in self._slots(used)
            if until > now and token not in self._lost
        }
        if held and self._granted:
            held |= {
                token: max(lease, self._kept.get(token, never))
                for token, lease in self._granted.items()
                if token not in self._lost
            }
        return held

    def _slots(self, used: int) -> list[tuple[str, tuple[float, float], float]]:
        found = []
        for start in range(HEADER_SIZE, HEADER_SIZE + used * SLOT_SIZE, SLOT_SIZE):
            deadline, length, until, size = SLOT.unpack_from(self._ledger, start)
            if size:
                begin = start + SLOT.size
                token = self._ledger[begin : begin + size].decode("utf-8", "replace")
                found.append((token, (deadline, length), until))
        return found

    def _keep(self, tokens: list[str], used: int, now: float, timeout: float) -> None:
        if self._broker is None:
            self._broker = self._connect()
        if self._granted is None:
            known = {token for token, _, _ in self._slots(used)}
            granted = self._call_home(self._broker, timeout)
            self._granted = {
                token: (now + (left or 0.0), left or 0.0)
                for token, left in granted.items()
                if token not in known
            }
        for start in range(0, len(tokens), 1000):
            chunk = tokens[start : start + 1000]
            for token, remaining in self._broker.heartbeat(chunk, timeout).items():
                if remaining is None:
                    self._lost.add(token)
                else:
                    self._kept[token] = now + remaining, remaining

    def _call_home(self, broker: Broker, timeout: float) -> dict[str, float | None]:
        """No more jobs shall go to a worker that cannot take them.

        Returns what the last call for jobs has brought or is about to bring.
        """
        (request_id,) = ASKING.unpack_from(self._ledger, ASKING_AT)
        return broker.call_home(request_id.rstrip(b"\0").decode(), timeout)

    def _say_once(self, what: str) -> None:
        if what not in self._told:
            self._told = {what}
            self._say(what)


def connect(message: bytes) -> Broker:
    """Load what is needed from where the worker has it, and open a channel as the worker's own."""
    import json

    told = json.loads(message)
    sys.path[:] = told["path"]
    import grpc

    from towline.channel import Connection
    from towline.v1 import queue_service_pb2 as messages
    from towline.v1.queue_service_pb2_grpc import QueueServiceStub

    stub = QueueServiceStub(Connection.handed_over(told["connection"]).open())
    ok = messages.LeaseOutcome.LEASE_OUTCOME_OK

    class GrpcBroker:
        def heartbeat(self, tokens: list[str], timeout: float) -> dict[str, float | None]:
            request = messages.HeartbeatRequest(
                worker_id=told["worker_id"],
                leases=[messages.LeaseHeartbeat(lease_token=token) for token in tokens],
            )
            try:
                results = stub.Heartbeat(request, timeout=timeout).results
            except grpc.RpcError:
                return {}
            left = [
                result.lease_remaining.ToTimedelta().total_seconds()
                if result.outcome == ok
                else None
                for result in results
            ]
            return dict(zip(tokens, left, strict=False))

        def call_home(self, request_id: str, timeout: float) -> dict[str, float | None]:
            # The same id again: the earlier call is answered with nothing, or was answered with
            # what comes back here.
            request = messages.ReserveRequest(
                queues=[messages.QueueChoice(name=NO_QUEUE)],
                worker_id=told["worker_id"],
                request_id=request_id,
            )
            try:
                leases = stub.Reserve(request, timeout=timeout).leases if request_id else ()
            except grpc.RpcError:
                return {}
            return {
                lease.lease_token: lease.lease_remaining.ToTimedelta().total_seconds()
                for lease in leases
            }

    return GrpcBroker()


def main(ledger_fd: int, size: int, hung_after: float) -> None:
    # Whoever stops the worker often signals its whole group, and the worker may have jobs to
    # finish: the guardian ends with the worker, and not before.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker = Worker(os.getppid(), hung_after)
    message = read_exactly(0, LENGTH.unpack(read_exactly(0, LENGTH.size))[0])
    ledger = mmap.mmap(ledger_fd, size, access=mmap.ACCESS_READ)

    def say(what: str) -> None:
        os.write(2, f"towline: worker process {worker.pid} {what}\n".encode())

    guardian = Guardian(ledger, worker, lambda: connect(message), say)
    pause = 0.0
    while True:
        if select.select([0], [], [], pause)[0] and not os.read(0, 64):
            return
        if not worker.is_here():  # a child of the worker may hold the pipe open
            return
        pause = guardian.look(time.monotonic())


def read_exactly(fd: int, size: int) -> bytes:
    """Raises EOFError when the worker is gone already."""
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


if __name__ == "__main__":
    try:  # noqa: SIM105 - contextlib is large
        main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    except EOFError:
        pass
    # Nothing is to be waited for or tidied up, not even threads of gRPC.
    os._exit(0)
