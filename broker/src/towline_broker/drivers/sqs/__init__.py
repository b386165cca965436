"""Amazon SQS as a store: one SQS queue for each queue of Towline.

SQS keeps messages; what it does not keep (who holds which lease, what was settled, totals) this
broker remembers in its own memory. ``docs/sqs.md`` says, promise by promise, what that comes to.
"""

from towline_broker.drivers.sqs.driver import SqsDriver
from towline_broker.drivers.sqs.url import read_options

__all__ = ["SqsDriver", "open_sqs"]


def open_sqs(url: str) -> SqsDriver:
    """``sqs:///?region=…&endpoint=…&prefix=…&fifo=true``; credentials as boto3 finds them.

    Raises StoreRefused if the url says anything else.
    """
    return SqsDriver(read_options(url))
