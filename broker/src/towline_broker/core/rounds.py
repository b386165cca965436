"""What a broker does again and again for as long as it runs."""

import asyncio
from collections.abc import Awaitable, Callable

from towline_broker.domain.errors import StoreFailed, TowlineError
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import Micros, to_seconds


async def every(interval: Micros, step: Callable[[], Awaitable[object]], outage: Outage) -> None:
    """For ever; to be cancelled. ``outage`` is told of each round whether it failed. Raises
    StoreFailed."""
    while True:
        try:
            await step()
        except StoreFailed:
            raise
        except TowlineError as error:
            outage.failed(error)
        except Exception as error:  # a defect of one round is no reason to do no other
            outage.failed(error, defect=error)
        else:
            outage.works()
        await asyncio.sleep(to_seconds(interval))
