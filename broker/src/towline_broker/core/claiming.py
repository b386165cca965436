"""What one Reserve asks of the stores that hold its queues."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from towline_broker.core.calls import ReserveCall
from towline_broker.core.stores import Store, Stores
from towline_broker.domain.errors import StoreFailed, TowlineError
from towline_broker.domain.jobs import Leased
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ReserveRequest


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
    #: Stores that gave no answer, and why.
    silent: dict[Store, Exception] = field(default_factory=dict)

    @property
    def leases(self) -> list[Leased]:
        if len(self.parts) == 1:
            return self.parts[0].leases
        return [leased for part in self.parts for leased in part.leases]


class Claims:
    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._outages = {
            store: Outage(
                f"store {store.name} gives no jobs", f"store {store.name} gives jobs again"
            )
            for store in stores.all
        }

    async def ask(
        self, call: ReserveCall, queues: Sequence[str], lease: Micros, grant: str, request_id: str
    ) -> Granted:
        """Leases from the queues in their order, whichever stores they are in.

        If leases are live under the request id, exactly those, of all stores. A store that gives
        no answer is passed over; raises its StoreError (or what else it raised) only if no other
        gives one. Raises StoreFailed in any case.
        """
        runs = self._stores.runs(queues)
        store, _ = runs[0]
        now = store.clock.now()
        request = ReserveRequest(
            queues, call.max_jobs, lease, grant, now, call.worker_id, request_id, call.max_bytes
        )
        if len(runs) == 1:
            leases = await store.driver.reserve(request)
            return Granted([Part(store, now, leases)] if leases else [])
        granted = Granted()
        if request_id:
            await self._ask_for_granted(runs, request, granted)
        if not granted.parts:
            await self._ask_for_jobs(runs, request, granted)
        if not granted.parts and all(store in granted.silent for store, _ in runs):
            raise next(iter(granted.silent.values()))
        return granted

    async def _ask_for_granted(
        self,
        runs: Sequence[tuple[Store, Sequence[str]]],
        request: ReserveRequest,
        granted: Granted,
    ) -> None:
        """Asks for no new job. Leases that a silent store may hold under the request id come with a
        later repeat, or end in their time."""
        for store in dict.fromkeys(store for store, _ in runs):
            queues = [queue for its, named in runs if its is store for queue in named]
            wanted = replace(request, queues=queues, max_jobs=0, max_bytes=None)
            await self._ask(store, wanted, granted)

    async def _ask_for_jobs(
        self,
        runs: Sequence[tuple[Store, Sequence[str]]],
        request: ReserveRequest,
        granted: Granted,
    ) -> None:
        jobs, room = request.max_jobs, request.max_bytes
        for store, named in runs:
            # Under its request id, a store that has granted leases would grant the same again.
            repeats = request.request_id and any(part.store is store for part in granted.parts)
            if repeats or store in granted.silent:
                granted.unasked = True
                continue
            wanted = replace(request, queues=named, max_jobs=jobs, max_bytes=room)
            leases = await self._ask(store, wanted, granted)
            jobs -= len(leases)
            if room is not None:
                room -= sum(len(leased.envelope) for leased in leases)
            if jobs <= 0 or (room is not None and room <= 0):
                break
        granted.unasked = granted.unasked or bool(granted.silent)

    async def _ask(self, store: Store, request: ReserveRequest, granted: Granted) -> list[Leased]:
        now = store.clock.now()
        try:
            leases = await store.driver.reserve(replace(request, now=now))
        except StoreFailed:
            raise
        except Exception as error:  # what others have granted must not be left lying with nobody
            defect = None if isinstance(error, TowlineError) else error
            self._outages[store].failed(error, defect)
            granted.silent[store] = error
            return []
        self._outages[store].works()
        if leases:
            granted.parts.append(Part(store, now, leases))
        return leases
