"""About how many bytes the record of a call will take in the journal, and rather more than less."""

from collections.abc import Iterable, Sequence

from towline_broker.domain.jobs import Failure, NewJob, Progress
from towline_broker.domain.retry import DEFAULT_POLICY
from towline_broker.drivers.interface import AckBatch, ExtendBatch, NackBatch, PushBatch, Transfer

#: Of a call that is about no jobs in particular.
LEAST = 8 * 1024
#: Of what has become of a job, beside what is counted apart.
_ITEM = 350
#: Of a new job.
_NEW = 700
_POLICY = 2_500


def of_items(count: int) -> int:
    return LEAST + _ITEM * count


def of_push(batch: PushBatch) -> int:
    jobs = batch.jobs
    kinds = [(job.unique_key, job.retry) for job in jobs]
    if kinds.count((None, DEFAULT_POLICY)) == len(jobs):
        return LEAST + _NEW * len(jobs) + sum([len(job.envelope) for job in jobs])
    return LEAST + sum(map(_of_new, jobs))


def of_receive(transfers: Sequence[Transfer]) -> int:
    told = (
        len(one.record.result) + _of_failure(one.record.failure) + _of_progress(one.record.progress)
        for one in transfers
    )
    return LEAST + sum(_of_new(one.new) for one in transfers) + sum(told)


def of_ack(batch: AckBatch) -> int:
    # Once with the job, if that is kept, and once in the settle memory.
    return of_items(len(batch.acks)) + 2 * sum([len(ack.result) for ack in batch.acks])


def of_nack(batch: NackBatch) -> int:
    return of_items(len(batch.nacks)) + sum(_of_failure(nack.failure) for nack in batch.nacks)


def of_extend(batch: ExtendBatch) -> int:
    return of_items(len(batch.items)) + sum(_of_progress(item.progress) for item in batch.items)


def _of_new(new: NewJob) -> int:
    size = _NEW + len(new.envelope)
    if new.unique_key is not None:
        size += 2 * _of_texts([new.unique_key])
    if new.retry is not DEFAULT_POLICY:
        size += _POLICY
    return size


def _of_failure(failure: Failure | None) -> int:
    if failure is None:
        return 0
    return _of_texts([failure.type, failure.message, failure.trace])


def _of_progress(progress: Progress | None) -> int:
    if progress is None:
        return 0
    return len(progress.checkpoint) + _of_texts([progress.message])


def _of_texts(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else 4 * len(text) for text in texts)
