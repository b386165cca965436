"""A memory store that outlives its driver, as if it were on a disk, and bugs in reopening it.

It shows that the part of the contract about crashes can be kept, and that breaking it is noticed,
apart from any real storage.
"""

from collections.abc import Callable
from typing import Any

from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Capabilities, Driver, Durability, Listener
from towline_broker.drivers.memory import Engine, MemoryDriver
from towline_broker.drivers.memory.settled import SettleMemory
from towline_broker.drivers.memory.unique_keys import UniqueKeys
from towline_broker.testing import Harness


class Disk:
    """What is left after a crash."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.latest: Micros = 0


#: What opening does to the disk, at a time.
Recover = Callable[[Disk, Micros], None]


def recover(disk: Disk, now: Micros) -> None:
    state = disk.engine._state
    disk.engine.take_events()
    for job in state.jobs.values():
        if job.lease is not None:
            until = max(job.lease.until, now + job.lease.length)
            state.set_lease(job, job.lease._replace(until=until))
    for queue in state.queues.values():
        state.events.ready[queue.name] += len(queue.ready)


class KeptDriver(MemoryDriver):
    def __init__(self, disk: Disk, recover: Recover) -> None:
        super().__init__(disk.engine)
        self._disk = disk
        self._recover = recover

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("kept", Durability.DURABLE, "Kept as long as the test.")

    async def open(self, now: Micros, listener: Listener) -> Micros:
        self._recover(self._disk, max(now, self._disk.latest))
        await super().open(now, listener)
        self._tell()
        return self._disk.latest

    async def push(self, batch: Any) -> Any:
        self._disk.latest = max(self._disk.latest, batch.now)
        return await super().push(batch)

    async def reserve(self, request: Any) -> Any:
        self._disk.latest = max(self._disk.latest, request.now)
        return await super().reserve(request)


class KeptHarness(Harness):
    persists = True

    def __init__(self, recover: Recover = recover) -> None:
        self._disk = Disk()
        self._recover = recover

    def driver(self) -> Driver:
        return KeptDriver(self._disk, self._recover)


# --- bugs -----------------------------------------------------------------------------------------


def the_last_job_is_lost(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    waiting = [job for job in disk.engine._state.jobs.values() if job.state is JobState.READY]
    for job in waiting[-1:]:
        disk.engine._state.remove(job)
    disk.engine.take_events()


def leases_keep_their_old_deadlines(disk: Disk, now: Micros) -> None:
    deadlines = {
        job.new.id: job.lease for job in disk.engine._state.jobs.values() if job.lease is not None
    }
    recover(disk, now)
    for job_id, lease in deadlines.items():
        disk.engine._state.set_lease(disk.engine._state.jobs[job_id], lease)


def leases_get_a_term_of_another_length(disk: Disk, now: Micros) -> None:
    for job in disk.engine._state.jobs.values():
        if job.lease is not None:
            job.lease = job.lease._replace(length=job.lease.length * 2)
    recover(disk, now)


def prolonged_leases_are_cut(disk: Disk, now: Micros) -> None:
    state = disk.engine._state
    for job in state.jobs.values():
        if job.lease is not None:
            state.set_lease(job, job.lease._replace(until=now + job.lease.length))
    recover(disk, now)


def leases_are_lost(disk: Disk, now: Micros) -> None:
    for job in list(disk.engine._state.jobs.values()):
        if job.lease is not None:
            disk.engine._state.wait(job, now)
    recover(disk, now)


def requests_are_forgotten(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    for job in disk.engine._state.jobs.values():
        if job.lease is not None:
            job.lease = job.lease._replace(request_id="")
    disk.engine._state.leases.requests.clear()


def the_settle_memory_is_lost(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    disk.engine._state.memory = SettleMemory()


def unique_keys_are_lost(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    disk.engine._state.keys = UniqueKeys()


def a_pause_is_forgotten(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    for queue in disk.engine._state.queues.values():
        queue.paused = False


def totals_start_over(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    disk.engine.reset_totals()


def the_clock_starts_over(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    disk.latest = 0


def nobody_is_told_of_ready_jobs(disk: Disk, now: Micros) -> None:
    recover(disk, now)
    disk.engine.take_events()


#: Each with a contract test that must fail on it.
REOPEN_BUGS: dict[Recover, str] = {
    the_last_job_is_lost: "test_p1_jobs_of_every_state_survive",
    leases_keep_their_old_deadlines: "test_p10_live_leases_get_a_fresh_full_term",
    leases_get_a_term_of_another_length: "test_p10_live_leases_get_a_fresh_full_term",
    prolonged_leases_are_cut: (
        "test_p2_a_prolonged_lease_does_not_end_earlier_than_its_worker_was_told"
    ),
    leases_are_lost: "test_p10_live_leases_get_a_fresh_full_term",
    requests_are_forgotten: "test_p3_a_repeated_request_gets_its_leases_after_a_crash",
    the_settle_memory_is_lost: "test_p4_the_settle_memory_survives",
    unique_keys_are_lost: "test_p3_unique_keys_survive",
    a_pause_is_forgotten: "test_a_pause_survives",
    totals_start_over: "test_p1_jobs_of_every_state_survive",
    the_clock_starts_over: "test_p10_the_clock_goes_on_from_the_latest_time_seen",
    nobody_is_told_of_ready_jobs: "test_p8_ready_jobs_are_told_of_at_opening",
}
