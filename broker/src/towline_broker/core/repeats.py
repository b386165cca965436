"""Reserves that are repeated, while the first call may still be under way."""

from collections import OrderedDict
from collections.abc import Iterable

from towline_broker.core.waiting import Waiter
from towline_broker.domain.jobs import Leased, LeaseRef


class Repeats:
    """Keeps repeated Reserves (same ``request_id``) from working against each other.

    A client repeats a call whose answer it missed, while this broker may still hold the first one
    parked, or may be about to take back what the first one was granted.
    """

    #: Leases that went out again, or were taken back, kept in mind; far more than can be under way
    #: at any moment.
    MOST = 50_000

    def __init__(self) -> None:
        self._parked: dict[str, Waiter] = {}
        self._deliveries: OrderedDict[LeaseRef, int] = OrderedDict()
        self._taken_back: OrderedDict[LeaseRef, None] = OrderedDict()

    def supersede(self, request_id: str, waiter: Waiter) -> None:
        """The earlier call goes home with nothing: nobody listens to its answer."""
        if request_id:
            earlier = self._parked.get(request_id)
            self._parked[request_id] = waiter
            if earlier is not None:
                earlier.superseded = True
                earlier.stir()

    def finished(self, request_id: str, waiter: Waiter) -> None:
        if self._parked.get(request_id) is waiter:
            del self._parked[request_id]

    def repeated(self, leases: Iterable[Leased]) -> None:
        """These go out once more. They need not be all of their grant: over several stores, the
        first call may still be asking the next one."""
        for leased in leases:
            self._deliveries[leased.ref] = self._deliveries.pop(leased.ref, 0) + 1
        while len(self._deliveries) > self.MOST:
            self._deliveries.popitem(last=False)

    def delivered_again(self, ref: LeaseRef) -> bool:
        """Whether one failed delivery of this lease is made up for by a later one."""
        again = self._deliveries.pop(ref, 0)
        if again > 1:
            self._deliveries[ref] = again - 1
        return again > 0

    def taken_back(self, refs: Iterable[LeaseRef]) -> None:
        """From here on these leases are no longer for anybody."""
        self._taken_back.update(dict.fromkeys(refs))
        while len(self._taken_back) > self.MOST:
            self._taken_back.popitem(last=False)

    def not_taken_back(self, refs: Iterable[LeaseRef]) -> None:
        """It did not succeed, as far as is known."""
        for ref in refs:
            self._taken_back.pop(ref, None)

    def still_held(self, leases: Iterable[Leased]) -> list[Leased]:
        """Those that were not taken back while the store was asked for them."""
        return [leased for leased in leases if leased.ref not in self._taken_back]
