"""The bounds and defaults that the core keeps to."""

from dataclasses import dataclass

from towline_broker.domain.time import MINUTE, SECOND, Micros


@dataclass(frozen=True, slots=True)
class CoreSettings:
    #: P4: how long settled jobs and leases are remembered.
    settle_memory: Micros = 10 * MINUTE
    #: Length of a lease for which no length was asked.
    default_lease: Micros = 30 * SECOND
    #: P11: most live jobs in one queue.
    max_queue_depth: int = 10_000_000
    #: P11: most queues in one store.
    max_queues: int = 100_000
    #: P11: most calls that may be parked at the same time.
    max_waiters: int = 10_000
    #: A worker not heard of for this long is no longer listed.
    worker_memory: Micros = 1 * MINUTE
    #: P11: most workers that are remembered; beyond it those heard of longest ago are forgotten.
    max_workers: int = 100_000
    #: Most records that one step of upkeep handles, so that calls come in between.
    upkeep_batch: int = 1_000
    #: The longest that upkeep sleeps. An orphaned job is back within its lease and this.
    upkeep_interval: Micros = SECOND // 2
