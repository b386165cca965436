"""One broker process: from its start to its end."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.domain.time import to_seconds
from towline_broker.server.announcing import announce
from towline_broker.server.exits import ExitCode, StartError
from towline_broker.server.garbage import collect_seldom
from towline_broker.server.open_files import allow_many
from towline_broker.server.serving import BrokerServer
from towline_broker.server.settings import Settings
from towline_broker.server.stopping import Stopping, first_of
from towline_broker.server.trimming import give_memory_back

log = logging.getLogger("towline.broker")

#: How long a broker that ends at once may still take to close its store.
LAST_SECONDS = 3.0


def run(settings: Settings, ready_file: Path | None = None) -> int:
    """Serves until a signal comes or a store fails; returns the exit code.

    ``ready_file`` holds the address for as long as the broker serves.
    """

    async def serve() -> int:
        stopping = Stopping()
        stopping.listen()
        return await serve_until(
            stopping, settings, lambda server: announce(server.serving, settings, ready_file)
        )

    return to_the_end(serve(), ready_file)


def to_the_end(serving: Coroutine[Any, Any, int], ready_file: Path | None = None) -> int:
    """The exit code of what serves, on a loop of its own; the ready file goes with it."""
    try:
        return asyncio.run(serving)
    except StartError as error:
        return refuse(str(error), error.exit_code)
    except Exception:
        log.exception("unexpected end")
        return ExitCode.UNEXPECTED
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


async def serve_until(
    stopping: Stopping,
    settings: Settings,
    started: Callable[[BrokerServer], None],
    *,
    shares_port: bool = False,
) -> int:
    """Calls ``started`` once the broker serves; returns the exit code."""
    allow_many()
    try:
        server = BrokerServer(settings, shares_port=shares_port)
        await server.start()
    except StartError as error:
        return refuse(str(error), error.exit_code)
    except StoreRefused as error:
        return refuse(f"store: {error}", ExitCode.STORE_REFUSED)
    except StoreUnavailable as error:
        return refuse(f"store: {error}", ExitCode.UNAVAILABLE)
    collect_seldom()
    started(server)
    trimming = asyncio.create_task(give_memory_back())
    try:
        return await _serve(server, settings, stopping)
    finally:
        trimming.cancel()


async def _serve(server: BrokerServer, settings: Settings, stopping: Stopping) -> int:
    failed = server.broker.failed
    await first_of(failed.wait(), stopping.asked.wait())
    if not failed.is_set():
        log.info(
            "draining for up to %g s; a second signal stops at once",
            to_seconds(settings.drain_timeout),
        )
        await first_of(failed.wait(), stopping.urgent.wait(), server.drain(settings.drain_timeout))
    if failed.is_set():
        log.error("the store has failed: this broker ends, and answers nothing more")
        return await _end_at_once(server, ExitCode.STORE_FAILED)
    if stopping.urgent.is_set():
        log.warning("stopping at once")
        return await _end_at_once(server, 128 + stopping.signal)
    await server.stop()
    log.info("stopped")
    return ExitCode.OK


async def _end_at_once(server: BrokerServer, code: int) -> int:
    """Closes the store if that can be done soon; what is acknowledged is safe in it either way."""
    try:
        async with asyncio.timeout(LAST_SECONDS):
            await server.stop(grace=None)
    except TimeoutError:
        log.error("the store does not close; ending without it")
        logging.shutdown()
        os._exit(code)  # a regular end would wait for the threads of the store
    except Exception:
        log.exception("closing the store failed")
    return code


def refuse(message: str, code: ExitCode) -> int:
    """Says why the broker does not start; returns the code."""
    print(f"towline-broker: {message}", file=sys.stderr)  # noqa: T201 -- said to whoever started it
    return code
