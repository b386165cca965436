"""A store in SQS in the hands of a test."""

from towline_broker.domain.jobs import Counts
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.registry import create_driver
from towline_broker.testing import Harness, Store


class SqsHarness(Harness):
    def __init__(self, url: str) -> None:
        self.url = url

    def driver(self) -> Driver:
        return create_driver(self.url)


class SqsStore(Store):
    async def check(self) -> None:
        """SQS has no lists to hold its counts against."""

    async def counts(self, queue: str = "q", type_: str = "T") -> Counts:
        """The depth is that of the queue, whatever the type."""
        counted = {(one.queue, one.type): one for one in await self.driver.counts()}
        depth = counted.get((queue, ""), Counts(queue, "")).depth
        totals = counted.get((queue, type_), Counts(queue, type_)).totals
        return Counts(queue, type_, depth, totals)
