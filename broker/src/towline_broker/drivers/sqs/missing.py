"""What SQS cannot do: it finds no message by its content, and shows one only by handing it out."""

from collections.abc import Sequence

from towline_broker.domain.errors import NotSupported
from towline_broker.domain.jobs import JobPage, JobRecord
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import (
    CancelOutcome,
    CancelRequest,
    CopyPage,
    DeadQuery,
    Feature,
    JobQuery,
    Standing,
    Transfer,
)

#: PURGE: what can be received is purged and counted, delayed jobs are not.
MISSING = frozenset(
    {
        Feature.PRIORITY,
        Feature.UNIQUE_KEYS,
        Feature.EXPIRY,
        Feature.RETENTION,
        Feature.LOOKUP,
        Feature.CANCEL,
        Feature.LISTING,
        Feature.DEAD_LETTERS,
        Feature.PURGE,
        Feature.TRANSFER,
    }
)


def cannot(feature: Feature, way_out: str = "") -> NotSupported:
    return NotSupported("sqs", feature.value, way_out)


class Missing:
    """The methods of the Driver interface that only refuse."""

    async def get(self, job_id: str) -> JobRecord | None:
        raise cannot(Feature.LOOKUP)

    async def list_jobs(self, query: JobQuery) -> JobPage:
        raise cannot(Feature.LISTING)

    async def cancel(self, request: CancelRequest) -> list[CancelOutcome]:
        raise cannot(Feature.CANCEL)

    async def list_dead(self, query: DeadQuery) -> JobPage:
        raise cannot(
            Feature.DEAD_LETTERS,
            "requeue or discard all of a queue's, or look at its companion queue in SQS itself",
        )

    async def copies(self, limit: int, cursor: str | None = None) -> CopyPage:
        raise cannot(
            Feature.TRANSFER, "the messages are in SQS itself, which keeps them for 14 days"
        )

    async def seal(self, queue: str, to: str | None) -> None:
        raise cannot(Feature.TRANSFER)

    async def outgoing(self, queue: str, limit: int) -> list[Transfer]:
        raise cannot(Feature.TRANSFER)

    async def receive(self, transfers: Sequence[Transfer], now: Micros) -> int:
        raise cannot(Feature.TRANSFER)

    async def drop(self, queue: str, seen: Sequence[Standing]) -> list[str]:
        raise cannot(Feature.TRANSFER)

    async def forward(self, queue: str) -> bool:
        raise cannot(Feature.TRANSFER)
