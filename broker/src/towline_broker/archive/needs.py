"""What a store must be able to do to keep the jobs of an export."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from towline_broker.archive.jobs import state_of, transfer_of
from towline_broker.archive.lines import JobLine
from towline_broker.domain.jobs import JobState
from towline_broker.domain.time import Micros, to_seconds
from towline_broker.drivers.interface import Capabilities, Feature


@dataclass(slots=True)
class Needs:
    """Gathered from jobs; each feature with the id of the first one that needs it."""

    features: dict[Feature, str] = field(default_factory=dict)
    #: When the last SCHEDULED job is due, and its id.
    last_due: tuple[Micros, str] = (0, "")
    #: Bytes of the largest envelope, and the id of its job.
    largest: tuple[int, str] = (0, "")

    @staticmethod
    def of(jobs: Iterable[JobLine], *, sizes: bool) -> "Needs":
        """``sizes``: envelopes are put together, which takes a while, to see how large they are."""
        found = Needs()
        for job in jobs:
            found._add(job)
            if sizes:
                size = len(transfer_of(job, job.queue, 0).new.envelope)
                found.largest = max(found.largest, (size, job.id))
        return found

    def _add(self, job: JobLine) -> None:
        state = state_of(job)
        for feature, needed in (
            (Feature.PRIORITY, job.priority),
            (Feature.UNIQUE_KEYS, job.unique_key is not None),
            (Feature.EXPIRY, job.expires_at is not None),
            (
                Feature.RETENTION,
                job.retention or state in (JobState.SUCCEEDED, JobState.CANCELLED),
            ),
        ):
            if needed:
                self.features.setdefault(feature, job.id)
        if state is JobState.SCHEDULED:
            self.last_due = max(self.last_due, (job.available_at or 0, job.id))


def lacking(needs: Needs, store: Capabilities, now: Micros) -> list[str]:
    """What the store does not offer, a sentence for each."""
    kind = f"a store of the kind {store.name!r}"
    found = [
        f"{kind} does not offer {feature.value}, which job {job_id} needs"
        for feature, job_id in needs.features.items()
        if feature in store.missing
    ]
    if Feature.TRANSFER in store.missing:
        found.insert(0, f"{kind} cannot take in jobs as they stand in another store")
    due, job_id = needs.last_due
    if store.max_delay is not None and due - now > store.max_delay:
        found.append(
            f"{kind} keeps no delay beyond {to_seconds(store.max_delay):g} seconds, and job "
            f"{job_id} is due in {to_seconds(due - now):.0f}"
        )
    size, job_id = needs.largest
    if store.max_envelope is not None and size > store.max_envelope:
        found.append(
            f"{kind} keeps no more than {store.max_envelope} bytes of a job, and job {job_id} has "
            f"{size}"
        )
    return found
