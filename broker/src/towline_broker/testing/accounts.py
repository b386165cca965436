"""What a store tells of its jobs in one way has to agree with what it tells in another."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from towline_broker.domain.jobs import Counts, JobRecord, JobState
from towline_broker.domain.time import Micros


def check_counts(records: Sequence[JobRecord], counted: Sequence[Counts]) -> None:
    """Each stored job is listed once, and the depths are those of the list."""
    ids = [record.id for record in records]
    assert len(ids) == len(set(ids)), "a job is listed twice"
    listed = Counter((record.queue, record.type, record.state) for record in records)
    assert len({(one.queue, one.type) for one in counted}) == len(counted)
    depth = {
        (one.queue, one.type, state): number
        for one in counted
        for state, number in (
            (JobState.SCHEDULED, one.depth.scheduled),
            (JobState.READY, one.depth.ready),
            (JobState.LEASED, one.depth.leased),
            (JobState.DEAD, one.depth.dead),
        )
        if number
    }
    kept = (JobState.SUCCEEDED, JobState.CANCELLED)
    assert depth == {key: number for key, number in listed.items() if key[2] not in kept}


def check_dead(records: Sequence[JobRecord], dead: Sequence[JobRecord]) -> None:
    """Each dead job is listed as such, in the order in which they died."""
    assert sorted(record.id for record in dead) == sorted(
        record.id for record in records if record.state is JobState.DEAD
    )
    died = [record.finished_at or 0 for record in dead]
    assert died == sorted(died), "dead jobs are not listed in the order in which they died"


def check_oldest_ready(
    records: Sequence[JobRecord], told: Mapping[str, Micros], mixed: Collection[str]
) -> None:
    """``mixed``: queues in which a job from another store may stand behind younger ones."""
    ready: dict[str, Micros] = {}
    for record in records:
        if record.state is JobState.READY and record.available_at is not None:
            since = ready.get(record.queue, record.available_at)
            ready[record.queue] = min(since, record.available_at)
    assert told.keys() == ready.keys()
    assert all(since == ready[name] for name, since in told.items() if name not in mixed)
