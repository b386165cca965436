"""Two names for one store: found out before a queue is moved from the store to itself."""

import secrets
from collections.abc import Sequence

from towline_broker.core.peers import EMPTY_NOTICE
from towline_broker.core.stores import Store
from towline_broker.domain.errors import StoreRefused
from towline_broker.domain.time import SECOND

#: How long the mark would stand if this broker ended before it took it away.
TERM = 5 * SECOND


async def check_distinct(stores: Sequence[Store]) -> None:
    """Leaves a mark in each store and looks for it in the next ones. A store that only one broker
    may use cannot be opened twice.

    Raises StoreRefused, StoreUnavailable.
    """
    shared = [store for store in stores if store.capabilities.shared]
    for number, store in enumerate(shared[:-1]):
        mark = f"mark-{secrets.token_hex(8)}"
        await store.driver.post(mark, EMPTY_NOTICE, store.clock.now() + TERM)
        try:
            for other in shared[number + 1 :]:
                if mark in await other.driver.notices(other.clock.now()):
                    raise StoreRefused(
                        f"{store.name} and {other.name} are names of one and the same store: "
                        "give its url one name only"
                    )
        finally:
            await store.driver.post(mark, b"", store.clock.now())
