"""Leases for the credits of one stream, as soon as there are jobs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from towline_broker.core.broker import Broker
from towline_broker.core.calls import ReserveCall
from towline_broker.domain.errors import Draining, StoreFailed, TowlineError
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import HOUR

#: The core is asked anew after so long; nothing depends on it.
PARKED = 1 * HOUR
#: Seconds after which a store is asked again that gave no answer.
ASK_AGAIN = 1.0


class Giving:
    """``deliver`` is given leases for the stream; :meth:`written` is to be called when some of them
    are on the wire. Until all are there are no others: nothing is leased for a reader who does not
    read. ``failed`` hears why there are none for now.

    Its task is the broker's own and never cancelled, so that a claim comes to its end whatever
    becomes of the stream: what nobody wants any more goes back.
    """

    def __init__(
        self,
        broker: Broker,
        call: ReserveCall,
        deliver: Callable[[list[Leased]], None],
        failed: Callable[[Exception], object],
    ) -> None:
        self._leasing = broker.leasing
        self._call = call
        self._deliver = deliver
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self.credits = 0
        #: The store is being asked, and answers in a moment, if only that it has nothing.
        self.asking = False
        self._unwritten: list[Leased] = []
        #: What the task waits for: a reason to go on, or jobs.
        self._stirred: asyncio.Future[None] | None = None
        self._parked: asyncio.Task[list[Leased]] | None = None
        #: Of the credits: leases that were asked for when there were others are not delivered.
        self._edition = 0
        self._stopped = False
        self._task = broker.leasing.own(self._run())

    def add(self, credits: int) -> None:
        self.credits += credits
        if self._stirred is not None and not self._unwritten:
            self.asking = True
            self._stir()

    def withdraw(self) -> None:
        """No lease is delivered from here on, until there are new credits."""
        self.credits = 0
        self._edition += 1
        if self._parked is not None:
            self._parked.cancel()

    def written(self, count: int) -> None:
        """So many more of the leases, in their order."""
        del self._unwritten[:count]
        if self.credits and not self._unwritten:
            self._stir()

    def stop(self) -> None:
        """No lease is delivered from here on."""
        self._stopped, self.asking = True, False
        self.withdraw()
        self._stir()

    async def give_back(self) -> None:
        """Once stopped, and nothing is written any more: what was not."""
        leases, self._unwritten = self._unwritten, []
        await self._give_back(leases)

    async def _run(self) -> None:
        while not self._stopped:
            if not self.credits or self._unwritten:
                self.asking = False
                await self._wait()
                continue
            edition = self._edition
            try:
                leases = await self._ask()
            except Draining:
                return
            except StoreFailed:
                raise
            except Exception as error:
                self.asking = False
                self._failed(error)
                self._loop.call_later(ASK_AGAIN, self._stir)
                await self._wait()
                continue
            if edition != self._edition:
                await self._give_back(leases)
            elif leases:
                self.credits -= len(leases)
                self._unwritten = leases
                self._deliver(leases)

    async def _wait(self) -> None:
        self._stirred = self._loop.create_future()
        await self._stirred
        self._stirred = None

    async def _ask(self) -> list[Leased]:
        """None, if it was withdrawn meanwhile."""
        call = self._call
        if call.max_jobs != self.credits:
            call = self._call = replace(call, max_jobs=self.credits)
        edition = self._edition
        leases = await self._leasing.claim(call)
        if leases or edition != self._edition:
            return leases
        self.asking = False
        waiting = self._leasing.reserve(replace(call, wait=PARKED), has_place=True)
        parked = self._parked = self._loop.create_task(waiting)
        try:
            await asyncio.wait([parked])
        finally:
            self._parked = None
        return [] if parked.cancelled() else parked.result()

    async def _give_back(self, leases: list[Leased]) -> None:
        if leases:
            with suppress(TowlineError):  # they end in their time
                await self._leasing.give_back(leases)

    def _stir(self) -> None:
        if self._stirred is not None and not self._stirred.done():
            self._stirred.set_result(None)
