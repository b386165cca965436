"""One of several broker processes on one address: the program that :mod:`.processes` starts.

Its first line of standard input holds the settings (they may hold passwords, and arguments and
environment of a process can be read by others). Once it serves it says so in one line of standard
output. Then it answers what it is asked on standard input (:mod:`~towline_broker.server.asking`).
When that ends, whoever started it is gone, and it drains.
"""

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from typing import BinaryIO

from towline_broker.domain.events import event
from towline_broker.server.asking import RELOAD, TAKEN_OVER, Answer, Answers, answer
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError
from towline_broker.server.http.showing import answers_about
from towline_broker.server.life.running import patience, serve_until, to_the_end
from towline_broker.server.life.stopping import Stopping
from towline_broker.server.logs import configure_logs
from towline_broker.server.serving import BrokerServer

log = logging.getLogger("towline.broker")

#: Seconds after which one whose event loop stands still ends, so that another takes its place. To
#: clients it seems alive: gRPC's own threads answer their pings.
HANGING = 60
#: Seconds by which it comes to its end before the one that started it would kill it.
EARLIER = 2.0


def main() -> int:
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure_logs(settings.log_level, settings.log_format, several=True)
    # Sent to all processes of a unit, it is meant for the one that looks after them.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whatever else is printed has no place among what the starter reads.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    async def serve() -> int:
        stopping = Stopping(patience(settings) - EARLIER)
        stopping.listen()
        stopping.end_if_loop_hangs(HANGING)
        answers: dict[str, Answer] = {}
        ending = asyncio.create_task(_end_with_starter(stopping, answers, out))

        def tell(server: BrokerServer) -> None:
            answers.update(answers_about(server, settings))
            answers[RELOAD] = partial(_reload, server, stopping)
            out.write(server.serving.to_json().encode() + b"\n")
            out.flush()

        try:
            return await serve_until(stopping, settings, tell, shares_port=True)
        finally:
            ending.cancel()

    return to_the_end(serve(), loop=settings.event_loop)


async def _reload(server: BrokerServer, stopping: Stopping, given: str) -> bytes:
    settings = Settings.model_validate_json(given)
    try:
        server.reload(settings)
    except ConfigError as error:
        log.error(
            "the settings are not taken over: %s",
            error,
            extra=event("settings_not_taken_over", reason=str(error)),
        )
        return b"refused"
    configure_logs(settings.log_level, settings.log_format, several=True)
    stopping.patience = patience(settings) - EARLIER
    return TAKEN_OVER


async def _end_with_starter(stopping: Stopping, answers: Answers, out: BinaryIO) -> None:
    await answer(answers, out)
    log.error("the process that started this one is gone; stopping", extra=event("starter_gone"))
    stopping.hear(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
