"""Jobs that are to go to another store, and comparing those that arrive."""

from collections.abc import Sequence

from towline_broker.domain.jobs import DeadReason, JobRecord, Progress
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import Transfer
from towline_broker.testing.factories import BOOM, START, new_job
from towline_broker.testing.store import Store


async def fill(store: Store) -> None:
    """Jobs of every state but LEASED, each with a past."""
    failed, rejected, done = new_job(), new_job(type="U"), new_job(retention=HOUR)
    silent, released = new_job(retention=2 * HOUR), new_job(unique_key="k")
    await store.create(failed, rejected, done, silent, released)
    leases = [one.ref for one in await store.reserve(max_jobs=5, worker_id="w")]
    store.advance(SECOND)
    await store.extend(leases[0], progress=Progress(0.5, "halb ½", b"\x00"))
    await store.retry(leases[0], failure=BOOM)
    await store.bury(leases[1], DeadReason.ATTEMPTS_EXHAUSTED, failure=BOOM)
    await store.ack(leases[2], result=b"\x00\xff")
    await store.ack(leases[3])
    await store.release(leases[4], delay=HOUR)
    stale, cancelled = new_job(expires_at=store.now), new_job(retention=HOUR)
    await store.create(stale, cancelled)
    assert await store.expire() == 1
    await store.cancel(cancelled.id)
    await store.create(new_job(), new_job(priority=3), new_job(due_at=START + HOUR))


def by_id(records: Sequence[JobRecord]) -> list[JobRecord]:
    return sorted(records, key=lambda record: record.id)


def in_any_order_if_kept(transfers: Sequence[Transfer]) -> list[Transfer]:
    kept = [one for one in transfers if one.keep_until is not None]
    others = [one for one in transfers if one.keep_until is None]
    return [*others, *sorted(kept, key=lambda one: one.new.id)]
