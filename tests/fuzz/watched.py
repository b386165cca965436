"""A share of the messages, run with an eye on what never ends.

In a module of its own: processes that are spawned find nothing that is defined in a ``__main__``.
"""

import faulthandler
import signal
import traceback

from tests.fuzz.running import Hang, Report, run_share

#: An epoch that takes so long of the processor's time hangs, and is reported as what was found; one
#: that takes so long by the clock is stuck where Python cannot help, and the stacks are printed.
HANG_SECONDS = 60
STUCK_SECONDS = 1_800


def run_watched(
    seed: int, messages: int, only: str, number: int, shares: int, epoch: int | None
) -> Report:
    faulthandler.enable()

    def hangs(*_: object) -> None:
        where = "".join(traceback.format_stack()[-12:])
        raise Hang(f"no end after {HANG_SECONDS} s of the processor\n{where}")

    def alive() -> None:
        signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
        faulthandler.dump_traceback_later(STUCK_SECONDS, exit=True)

    signal.signal(signal.SIGPROF, hangs)
    try:
        return run_share(seed, messages, only, number, shares, epoch, alive)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
