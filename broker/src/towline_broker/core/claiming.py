"""What one Reserve asks of the stores that hold its queues."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from msgspec.structs import replace

from towline_broker.core.calls import ReserveCall
from towline_broker.core.queue_options import RuleBook
from towline_broker.core.stores import Store, Stores
from towline_broker.domain.errors import StoreFailed, TowlineError
from towline_broker.domain.jobs import Leased
from towline_broker.domain.outage import Outage
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import ReserveRequest


class Run(NamedTuple):
    """What one store is asked in one go."""

    store: Store
    queues: Sequence[str]
    lease: Micros


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
    def __init__(self, stores: Stores, rules: RuleBook) -> None:
        self._stores = stores
        self._rules = rules
        self._outages = {
            store: Outage("jobs", "it gives no jobs", "it gives jobs again", store.name)
            for store in stores.all
        }

    async def ask(
        self, call: ReserveCall, queues: Sequence[str], grant: str, request_id: str
    ) -> Granted:
        """Leases from the queues in their order, whichever stores they are in, except those that
        the settings have paused.

        If leases are live under the request id, exactly those, of all stores. A store that gives
        no answer is passed over; raises its StoreError (or what else it raised) only if no other
        gives one. Raises StoreFailed in any case.
        """
        rules, only = self._rules, self._stores.only
        if only is not None and not rules.any_paused and not rules.any_lease:
            # Whatever its queues are, it is one store that is asked once.
            now = only.clock.now()
            lease = rules.default_lease if call.lease is None else call.lease
            leases = await only.driver.reserve(
                ReserveRequest(
                    *(queues, call.max_jobs, lease, grant, now),
                    *(call.worker_id, request_id, call.max_bytes),
                )
            )
            return Granted([Part(only, now, leases)] if leases else [])
        open_ = rules.open(queues)
        runs = self._runs(open_, call.lease) if open_ else []
        store, _, lease = runs[0] if runs else Run(self._stores.default, [], 0)
        now = store.clock.now()
        request = ReserveRequest(
            queues, call.max_jobs, lease, grant, now, call.worker_id, request_id, call.max_bytes
        )
        if len(runs) == 1 and open_ is queues:
            leases = await store.driver.reserve(request)
            return Granted([Part(store, now, leases)] if leases else [])
        granted = Granted()
        if request_id:
            await self._ask_for_granted(queues, request, granted)
        if not granted.parts:
            await self._ask_for_jobs(runs, request, granted)
        if granted.silent and not granted.parts and all(r.store in granted.silent for r in runs):
            raise next(iter(granted.silent.values()))
        return granted

    def _runs(self, queues: Sequence[str], lease: Micros | None) -> list[Run]:
        """Queues that follow each other in one store, and whose leases are of the same length."""
        runs = self._stores.runs(queues)
        if lease is not None or not self._rules.any_lease:
            length = self._rules.default_lease if lease is None else lease
            return [Run(store, named, length) for store, named in runs]
        return [
            Run(store, list(group), length)
            for store, named in runs
            for length, group in groupby(named, lambda queue: self._rules.of(queue).lease)
        ]

    async def _ask_for_granted(
        self, queues: Sequence[str], request: ReserveRequest, granted: Granted
    ) -> None:
        """Asks for no new job. Leases that a silent store may hold under the request id come with a
        later repeat, or end in their time."""
        runs = self._stores.runs(queues)
        for store in dict.fromkeys(store for store, _ in runs):
            its_queues = [queue for its, named in runs if its is store for queue in named]
            wanted = replace(request, queues=its_queues, max_jobs=0, max_bytes=None)
            await self._ask(store, wanted, granted)

    async def _ask_for_jobs(
        self, runs: Sequence[Run], request: ReserveRequest, granted: Granted
    ) -> None:
        jobs, room = request.max_jobs, request.max_bytes
        for store, named, lease in runs:
            # Under its request id, a store that has granted leases would grant the same again.
            repeats = request.request_id and any(part.store is store for part in granted.parts)
            if repeats or store in granted.silent:
                granted.unasked = True
                continue
            wanted = replace(request, queues=named, max_jobs=jobs, lease=lease, max_bytes=room)
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
