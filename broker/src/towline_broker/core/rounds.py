"""What a broker does again and again for as long as it runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from towline_broker.domain.errors import StoreError, StoreFailed
from towline_broker.domain.time import Micros, to_seconds

log = logging.getLogger("towline.broker")


async def every(interval: Micros, step: Callable[[], Awaitable[object]], failing: str) -> None:
    """For ever; to be cancelled. ``failing`` is logged with the reason when the store does not
    answer. Raises StoreFailed."""
    while True:
        try:
            await step()
        except StoreFailed:
            raise
        except StoreError as error:
            log.warning("%s: %s", failing, error)
        except Exception:
            log.exception("%s: a defect; going on", failing)
        await asyncio.sleep(to_seconds(interval))
