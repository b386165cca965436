"""Jobs by their ids, wherever they are kept."""

import asyncio
from collections.abc import Sequence

from towline_broker.core.stores import Stores
from towline_broker.domain.identity import Sight
from towline_broker.domain.jobs import JobRecord
from towline_broker.drivers.interface import Feature


async def find(stores: Stores, job_id: str) -> JobRecord | None:
    """An id does not tell the queue, so each store is asked. One that only remembers the job has
    less to say than one that keeps it. Raises StoreError."""
    remembered = None
    for store in stores.offering(Feature.LOOKUP):
        record = await store.driver.get(job_id)
        if record is not None and record.type:
            return record
        remembered = remembered or record
    return remembered


async def in_sight(stores: Stores, job_ids: Sequence[str], sight: Sight) -> Sequence[str]:
    """Those of jobs whose queue the caller may deal with. A job that no store can look up is none
    of them, unless the caller may deal with every queue. Raises StoreError."""
    if sight is None:
        return job_ids
    records = await asyncio.gather(*(find(stores, job_id) for job_id in job_ids))
    return [
        job_id
        for job_id, record in zip(job_ids, records, strict=True)
        if record is not None and sight(record.queue)
    ]
