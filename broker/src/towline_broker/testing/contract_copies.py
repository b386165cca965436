"""Copies of all that is stored, for an archive."""

import pytest
from msgspec.structs import replace

from towline_broker.domain.errors import InvalidField
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import HOUR, SECOND
from towline_broker.drivers.interface import Transfer
from towline_broker.testing.factories import START, new_id, new_job, new_jobs
from towline_broker.testing.store import Store
from towline_broker.testing.transfers import fill


class CopiesContract:
    """Every job once, as it stands."""

    async def test_copies_tell_what_leaving_jobs_tell(self, store: Store) -> None:
        await fill(store)
        expected = {one.new.id: one for one in await store.outgoing()}
        for limit in (1, 3, 1000):
            copies = await store.copies(limit)
            assert {one.transfer.new.id: one.transfer for one in copies} == expected
            assert len(copies) == len(expected)

    async def test_a_leased_job_is_copied_with_its_lease(self, store: Store) -> None:
        await store.create(job := new_job(unique_key="k", expires_at=START + HOUR))
        lease = await store.reserve_one(worker_id="w")
        (copy,) = await store.copies()
        record = await store.get(job.id)
        new = replace(job, expires_at=None)
        assert copy.transfer == Transfer(new, record, holds_key=True)
        assert (record.state, record.attempt, record.lease_until, record.worker_id) == (
            *(JobState.LEASED, 1, lease.lease_until),
            "w",
        )

    async def test_p6_places_are_in_the_order_of_the_line(self, store: Store) -> None:
        first, second, third, soon, also_soon = (
            *new_jobs(3),
            *new_jobs(2, due_at=START + HOUR),
        )
        await store.create(first, second, third, soon, also_soon)
        await store.retry((await store.reserve_one()).ref)
        places = {one.transfer.new.id: one.place for one in await store.copies()}
        assert sorted((second.id, third.id, first.id), key=places.__getitem__) == [
            *(second.id, third.id, first.id)
        ]
        assert places[soon.id] < places[also_soon.id]

    async def test_a_job_that_changes_meanwhile_is_copied_once(self, store: Store) -> None:
        jobs = [*new_jobs(3), *new_jobs(2, due_at=START + SECOND)]
        await store.create(*jobs)
        page = await store.driver.copies(2)
        seen = [one.transfer.new.id for one in page.copies]
        store.advance(SECOND)
        await store.promote()
        leases = await store.reserve(max_jobs=5)
        await store.retry(leases[0].ref)
        await store.bury(leases[1].ref)
        await store.create(new_job())
        while page.next_cursor is not None:
            page = await store.driver.copies(2, page.next_cursor)
            seen += [one.transfer.new.id for one in page.copies]
        assert len(seen) == len(set(seen))
        assert {job.id for job in jobs} <= set(seen)

    async def test_a_page_of_copies_that_nobody_gave_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidField, match="page_token"):
            await store.driver.copies(10, new_id())
