"""What ends a broker from outside: signals, or the end of the process that started it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Signals: the first asks for a drain, the second for an end at once, the third kills."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.urgent = asyncio.Event()
        self.signal = 0

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.hear, number)

    def hear(self, number: int) -> None:
        """As if this signal had come."""
        if not self.asked.is_set():
            self.asked.set()
            return
        self.signal = number
        self.urgent.set()
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Returns when one has ended, and cancels the others. Raises what that one raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
