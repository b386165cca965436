"""What must hold of the state of the memory engine after any call, and when nothing is left."""

from collections import Counter

from tests.fuzz.answers import Wrong
from tests.fuzz.fuzzed_broker import SETTINGS
from towline_broker.core.broker import Broker
from towline_broker.domain.jobs import JobState
from towline_broker.drivers.interface import DeadFilter
from towline_broker.drivers.memory.records import current_cost
from towline_broker.drivers.memory.state import State

LIVE = (JobState.SCHEDULED, JobState.READY, JobState.LEASED)


def check_state(state: State) -> None:
    """Every index agrees with the jobs. Raises Wrong."""
    jobs = list(state.jobs.values())
    live = Counter(job.queue for job in jobs if job.state in LIVE)
    ready = Counter(job.queue for job in jobs if job.state is JobState.READY)
    scheduled = Counter(job.queue for job in jobs if job.state is JobState.SCHEDULED)
    by_type = Counter((job.queue, job.type, job.state) for job in jobs if job.state in LIVE)
    _agree("jobs in push order", len(state.in_push_order), len(jobs))
    _agree(
        "dead jobs", state.dead.count(DeadFilter()), sum(job.state is JobState.DEAD for job in jobs)
    )
    _agree("bytes", state.size - state.memory.size, sum(current_cost(job) for job in jobs))
    for name, queue in state.queues.items():
        _agree(f"live jobs of {name}", queue.live, live[name])
        _agree(f"ready jobs of {name}", len(queue.ready), ready[name])
        _agree(f"scheduled jobs of {name}", len(queue.scheduled), scheduled[name])
    for (queue_name, type_), tally in state.tallies.items():
        for job_state in LIVE:
            known = by_type[queue_name, type_, job_state]
            _agree(f"{job_state.name} {type_} in {queue_name}", tally.depth[job_state], known)
    requests = {id(job) for held in state.leases.requests.values() for job in held.values()}
    leased = {id(job) for job in jobs if job.state is JobState.LEASED}
    if not requests <= leased:
        raise Wrong("a request id names jobs that are not leased")
    for job in jobs:
        if (job.lease is not None) is not (job.state is JobState.LEASED):
            raise Wrong(f"job {job.id} is {job.state.name} with lease {job.lease is not None}")
        if job.attempt > job.retry.max_attempts + job.releases:
            raise Wrong(f"job {job.id}: attempt {job.attempt} of {job.retry.max_attempts}")


def check_empty(state: State, broker: Broker) -> None:
    """Nothing is kept of jobs that are gone, or of calls that are over. Raises Wrong."""
    leasing = broker.leasing
    left = {
        "jobs": len(state.jobs),
        "bytes": state.size,
        "settle memory": len(state.memory),
        "unique keys": len(state.keys._held),
        "request ids": len(state.leases.requests),
        "due": len(list(state.due)),
        "expiring": len(list(state.expiring)),
        "deadlines": len(list(state.leases)),
        "retained": len(list(state.retained)),
        "waiters": len(broker._line._lines),
        "watches": len(broker._watch._watches),
        "parked": leasing._limit.parked,
        "repeated calls": len(leasing._repeats._parked),
        "holders of leases": len(leasing._workers._holders),
        "own tasks": len(broker._owned._tasks) - len(broker._rounds) - 1,
    }
    if any(left.values()):
        raise Wrong(f"left behind: { {name: count for name, count in left.items() if count} }")
    if leasing._workers.count() > SETTINGS.max_workers:
        raise Wrong(f"{leasing._workers.count()} workers are remembered")


def _agree(what: str, counted: int, known: int) -> None:
    if counted != known:
        raise Wrong(f"{what}: {counted} by the index, {known} by the jobs")
