"""Who hears what has become of jobs."""

from collections.abc import Mapping, Sequence
from typing import Protocol


class Listener(Protocol):
    """Hears, on the event loop, what has become of jobs."""

    def jobs_ready(self, queue: str, count: int) -> None:
        """So many jobs of the queue became READY (or leasable again, as after a resume).

        While the queue is paused a driver may tell this or not."""

    def jobs_coming(self, queue: str, count: int) -> None:
        """So many jobs of the queue will become READY, if nothing goes wrong, by a change that is
        under way; what is asked of the store from now on is done behind it. :meth:`jobs_ready`
        tells of them all the same.

        A driver need not tell this. One that does saves a claim from waiting for the push to be
        durable before it is even begun."""

    def jobs_ended(self, job_ids: Sequence[str]) -> None:
        """These jobs became SUCCEEDED, DEAD or CANCELLED (purged ones among them). May also name
        jobs that had ended before and are now removed."""


def tell(listener: Listener, ready: Mapping[str, int], ended: Sequence[str]) -> None:
    """What a driver has gathered: how many jobs became READY, by queue, and the ids of those that
    ended."""
    for queue, count in ready.items():
        if count:
            listener.jobs_ready(queue, count)
    if ended:
        listener.jobs_ended(ended)
