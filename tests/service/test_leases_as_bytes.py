"""Replies that are written as bytes are what protobuf writes."""

from random import Random

import pytest
from msgspec.structs import replace

from towline.v1.job_pb2 import AttemptLimits, Failure, Job, Lease, Progress
from towline.v1.queue_service_pb2 import PushOutcome, PushResponse, PushResult, ReserveResponse
from towline_broker.domain import jobs as domain
from towline_broker.domain.time import HOUR, SECOND, Micros
from towline_broker.services.times import to_duration, to_timestamp
from towline_broker.services.wire import replies
from towline_broker.services.wire.leases import LeaseWriter, fitting

NOW = 1_800_000_000 * SECOND
CLOCKS = {"q": NOW, "mail:out": NOW + 5 * HOUR}
OF_ATTEMPTS = AttemptLimits(result_bytes=1, checkpoint_bytes=2, progress_message_bytes=3)


def job_id(rng: Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def leased(rng: Random) -> domain.Leased:
    queue = rng.choice([*CLOCKS])
    payload = b"x" * rng.choice((0, 1, 20, 60, 127, 128, 300, 17_000, 3_000_000))
    job = Job(id=job_id(rng), queue=queue, type="T", payload=payload, headers={"a": "b"})
    return domain.Leased(
        domain.LeaseRef(queue, job.id, "g" * rng.choice((12, 12, 24, 64))),
        "T",
        job.SerializeToString(),
        attempt=rng.choice((1, 1, 2, 300)),
        lease_until=NOW + rng.choice((-5, 0, 1, SECOND, HOUR, 6 * HOUR)),
        enqueued_at=NOW - rng.choice((0, 1, SECOND, SECOND + 7)),
        ready_at=NOW,
        failure=rng.choice((None, None, domain.Failure("E", "bad", "trace", NOW - 3))),
        progress=rng.choice((None, None, domain.Progress(0.5, "half", b"at 5"))),
    )


def like(rng: Random, one: domain.Leased) -> domain.Leased:
    """Another job of the same lease, of which workers may have told something else."""
    job = Job.FromString(one.envelope)
    job.id = job_id(rng)
    return replace(
        one,
        ref=one.ref._replace(job_id=job.id),
        envelope=job.SerializeToString(),
        failure=rng.choice((one.failure, domain.Failure("E", "bad", "trace", NOW - 3))),
        progress=rng.choice((one.progress, domain.Progress(0.5, "half", b"at 5"))),
    )


def message(leased: domain.Leased, now: Micros, limits: AttemptLimits | None) -> Lease:
    lease = Lease(
        lease_token="/".join(leased.ref),
        job=Job.FromString(leased.envelope),
        attempt=leased.attempt,
        lease_remaining=to_duration(max(0, leased.lease_until - now)),
        enqueued_at=to_timestamp(leased.enqueued_at),
        limits=limits,
    )
    if leased.failure is not None:
        failed_at = to_timestamp(leased.failure.at)
        failure = Failure(type="E", message="bad", trace="trace", failed_at=failed_at)
        lease.last_failure.CopyFrom(failure)
    if leased.progress is not None:
        progress = Progress(fraction=0.5, message="half", checkpoint=b"at 5")
        lease.last_progress.CopyFrom(progress)
    return lease


@pytest.mark.parametrize("limits", [None, OF_ATTEMPTS])
def test_leases_are_written_as_protobuf_writes_them(limits: AttemptLimits | None) -> None:
    rng = Random(1)
    leases = [leased(rng) for _ in range(120)]
    leases = [also for each in leases for also in (each, like(rng, each), like(rng, each))]
    written = b"".join(LeaseWriter(limits).entries(leases, CLOCKS.__getitem__))
    messages = [message(each, CLOCKS[each.ref.queue], limits) for each in leases]
    assert written == ReserveResponse(leases=messages).SerializeToString()


def test_as_many_leases_are_sent_as_fit_and_at_least_one() -> None:
    entries = [b"x" * 10, b"x" * 20, b"x" * 5]
    found = {most: fitting(entries, most) for most in (1, 10, 29, 30, 34, 35, 99)}
    assert found == {1: 1, 10: 1, 29: 1, 30: 2, 34: 2, 35: 3, 99: 3}
    assert fitting([], 10) == 0


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_reply_to_jobs_that_are_all_new_is_written_as_protobuf_writes_it(count: int) -> None:
    rng = Random(2)
    ids = [job_id(rng) for _ in range(count)]
    new = [PushResult(job_id=each, outcome=PushOutcome.PUSH_OUTCOME_CREATED) for each in ids]
    assert replies.created(ids) == PushResponse(results=new).SerializeToString()
