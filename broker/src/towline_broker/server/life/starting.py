"""The start of a broker whose stores may not be there yet.

After a reboot, in a compose file, through a failover: a broker often starts before its database
answers. It waits then, and says what for. A store that answers and refuses is not waited for.
"""

import asyncio
import logging
import math
import time

from towline_broker.domain.errors import StoreUnavailable
from towline_broker.domain.events import event
from towline_broker.domain.time import to_seconds
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.serving import BrokerServer

log = logging.getLogger("towline.broker")

#: Seconds between two tries; doubled after each.
FIRST_DELAY = 0.1
MOST_DELAY = 5.0


async def start_broker(settings: Settings, *, shares_port: bool = False) -> BrokerServer:
    """A broker that serves.

    While a store cannot be reached it is tried again, for ``wait_for_store`` after the first time;
    a try that is under way then is finished. Raises what :meth:`BrokerServer.start` raises.
    """
    end, delay, told = None, FIRST_DELAY, ""
    while True:
        # Made anew each time: drivers are opened once.
        server = BrokerServer(settings, shares_port=shares_port)
        try:
            await server.start()
        except StoreUnavailable as error:
            end = end or time.monotonic() + to_seconds(settings.wait_for_store)
            left = end - time.monotonic()
            if left <= 0:
                raise
            # Once for each reason, and now and then while it goes on.
            if str(error) != told or delay == MOST_DELAY:
                told = str(error)
                log.warning(
                    "waiting for the store, for %d s at most: %s",
                    math.ceil(left),
                    told,
                    extra=event("waiting_for_store", seconds=math.ceil(left), reason=told),
                )
            await asyncio.sleep(min(delay, left))
            delay = min(2 * delay, MOST_DELAY)
        else:
            return server
