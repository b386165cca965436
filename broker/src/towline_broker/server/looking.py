"""What a broker looks at again and again while it serves."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from towline_broker.domain.events import event

log = logging.getLogger("towline.broker")


async def look_every(seconds: float, look: Callable[[], Awaitable[object]], what: str) -> None:
    """Awaits ``look`` after each such pause; never returns.

    A look that fails is not the last one: who waits for a certificate to be renewed, or a token to
    be revoked, must not wait in vain for what went wrong once. ``what`` names it in the log.
    """
    told = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            await look()
            told = ""
        except Exception as error:  # whatever it is, the next look may go well
            if repr(error) != told:
                told = repr(error)
                log.exception(
                    "%s failed, and is tried again", what, extra=event("look_failed", what=what)
                )
