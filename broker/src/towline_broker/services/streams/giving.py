"""Leases for the credits of one stream, as soon as there are jobs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from msgspec.structs import replace

from towline_broker.core.broker import Broker
from towline_broker.core.calls import ReserveCall
from towline_broker.domain.errors import Draining, TowlineError
from towline_broker.domain.jobs import Leased
from towline_broker.domain.time import HOUR

#: The core is asked anew after so long; nothing depends on it.
PARKED = 1 * HOUR
#: Seconds after which a store is asked again that gave no answer.
ASK_AGAIN = 1.0


class Giving:
    """``deliver`` is given leases for the stream; :meth:`written` is to be called when they are on
    the wire. Until then there are no others: nothing is leased for a reader who does not read.
    ``failed`` hears why there are none for now."""

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
        self.credits = 0
        #: The store is being asked, and answers in a moment, if only that it has nothing.
        self.asking = False
        self._unwritten: list[Leased] = []
        self._stirred: asyncio.Future[None] | None = None
        self._stopped = False
        self._task = asyncio.create_task(self._run())

    def add(self, credits: int) -> None:
        self.credits += credits
        if self._stirred is not None and not self._unwritten:
            self.asking = True
            self._stir()

    def withdraw(self) -> None:
        """No lease is delivered from here on, until there are new credits."""
        self.credits = 0
        if self._stirred is None and not self._stopped:
            self._task.cancel()  # what it is granted meanwhile goes back
            self.asking = False
            self._task = asyncio.create_task(self._run())

    def written(self) -> None:
        if self._unwritten:
            self._unwritten = []
            if self.credits:
                self._stir()

    def stop(self) -> None:
        """No lease is delivered from here on."""
        self._stopped, self.asking = True, False
        self._task.cancel()

    async def finish(self) -> None:
        """Once stopped: gives back what was not written."""
        with suppress(asyncio.CancelledError):
            await asyncio.shield(asyncio.gather(self._task, return_exceptions=True))
        leases, self._unwritten = self._unwritten, []
        if leases:
            with suppress(TowlineError):  # they end in their time
                await self._leasing.give_back(leases)

    async def _run(self) -> None:
        while True:
            if not self.credits or self._unwritten:
                self.asking = False
                self._stirred = asyncio.get_running_loop().create_future()
                try:
                    await self._stirred
                finally:
                    self._stirred = None
                continue
            try:
                leases = await self._ask()
            except Draining:
                return
            except Exception as error:
                self._failed(error)
                self.asking = False
                await asyncio.sleep(ASK_AGAIN)
                continue
            if leases:
                self.credits -= len(leases)
                self._unwritten = leases
                self._deliver(leases)

    async def _ask(self) -> list[Leased]:
        call = replace(self._call, max_jobs=self.credits)
        leases = await self._leasing.reserve(call)
        if not leases:
            self.asking = False
            leases = await self._leasing.reserve(replace(call, wait=PARKED), has_place=True)
        return leases

    def _stir(self) -> None:
        if self._stirred is not None and not self._stirred.done():
            self._stirred.set_result(None)
