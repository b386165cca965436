"""What one Reserve asks of the stores that hold its queues."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from towline_broker.core.calls import ReserveCall
from towline_broker.core.stores import Store, Stores
from towline_broker.domain.errors import StoreFailed, StoreUnavailable, TowlineError
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ReserveRequest

log = logging.getLogger("towline.broker")


@dataclass(slots=True)
class Part:
    """Leases from one store; never none. ``now`` is the time by its clock when it was asked."""

    store: Store
    now: Micros
    leases: list[Leased]


@dataclass(slots=True)
class Granted:
    parts: list[Part] = field(default_factory=list)
    #: Not every queue was asked for all that there was room for.
    unasked: bool = False

    @property
    def leases(self) -> list[Leased]:
        if len(self.parts) == 1:
            return self.parts[0].leases
        return [leased for part in self.parts for leased in part.leases]


class Claims:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def ask(
        self, call: ReserveCall, queues: Sequence[str], lease: Micros, grant: str, request_id: str
    ) -> Granted:
        """Leases from the queues in their order, whichever stores they are in.

        If leases are live under the request id, exactly those, of all stores. Raises StoreError,
        but not if another store gave something (unless it is a StoreFailed).
        """
        runs = self._stores.runs(queues)
        if not request_id or len(runs) == 1:
            return await self._granted_now(runs, call, lease, grant, request_id, None)
        granted, down = await self._granted_before(runs, lease, grant, call.worker_id, request_id)
        if granted.parts:
            return granted
        # One that is down is not asked again: others go on without it.
        runs = [(store, named) for store, named in runs if store not in down]
        failure = next(iter(down.values()), None)
        return await self._granted_now(runs, call, lease, grant, request_id, failure)

    @staticmethod
    async def _granted_now(
        runs: Sequence[tuple[Store, Sequence[str]]],
        call: ReserveCall,
        lease: Micros,
        grant: str,
        request_id: str,
        failure: Exception | None,
    ) -> Granted:
        """Asks one store after the other, until there is no room for more jobs. ``failure``: of one
        that is left out."""
        granted = Granted(unasked=failure is not None)
        jobs, room = call.max_jobs, call.max_bytes
        for store, named in runs:
            if request_id and any(part.store is store for part in granted.parts):
                # Asked once more under this request id, it would give the same leases again.
                granted.unasked = True
                continue
            now = store.clock.now()
            request = ReserveRequest(
                named, jobs, lease, grant, now, call.worker_id, request_id, room
            )
            try:
                leases = await store.driver.reserve(request)
            except StoreFailed:
                raise
            except Exception as error:
                if len(runs) == 1:
                    raise
                # What others have granted must not be left lying with nobody.
                defect = not isinstance(error, TowlineError)
                log.warning("store %s gave no jobs: %s", store.name, error, exc_info=defect)
                failure, granted.unasked = error, True
                continue
            if leases:
                granted.parts.append(Part(store, now, leases))
                jobs -= len(leases)
                if room is not None:
                    room -= sum(len(leased.envelope) for leased in leases)
            if jobs <= 0 or (room is not None and room <= 0):
                break
        if failure is not None and not granted.parts:
            raise failure
        return granted

    @staticmethod
    async def _granted_before(
        runs: Sequence[tuple[Store, Sequence[str]]],
        lease: Micros,
        grant: str,
        worker_id: str,
        request_id: str,
    ) -> tuple[Granted, dict[Store, StoreUnavailable]]:
        """Asks for no new job. Also returns the stores that are down. Leases that one of them may
        hold under the request id come with a later repeat, or end in their time."""
        granted, down = Granted(), dict[Store, StoreUnavailable]()
        for store in dict.fromkeys(store for store, _ in runs):
            now = store.clock.now()
            queues = [queue for its, named in runs if its is store for queue in named]
            request = ReserveRequest(queues, 0, lease, grant, now, worker_id, request_id)
            try:
                leases = await store.driver.reserve(request)
            except StoreUnavailable as error:
                log.warning("store %s gave no jobs: %s", store.name, error)
                down[store] = error
                continue
            if leases:
                granted.parts.append(Part(store, now, leases))
        return granted, down
