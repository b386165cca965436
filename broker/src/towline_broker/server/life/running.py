"""One broker process: from its start to its end."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from towline_broker.domain.errors import StoreError, StoreFailed, StoreRefused, StoreUnavailable
from towline_broker.domain.events import event
from towline_broker.domain.time import to_seconds
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import Sources
from towline_broker.server.event_loop import Choice, loop_factory
from towline_broker.server.exits import ExitCode, StartError
from towline_broker.server.garbage import collect_seldom
from towline_broker.server.http.showing import shown_over_http
from towline_broker.server.life.announcing import announce
from towline_broker.server.life.ready_file import make_way, remove
from towline_broker.server.life.reloading import Reloading
from towline_broker.server.life.starting import start_broker
from towline_broker.server.life.stopping import GRACE, LAST_SECONDS, TELLING, Stopping, first_of
from towline_broker.server.life.systemd import Systemd
from towline_broker.server.logs import configure_logs, in_json
from towline_broker.server.open_files import allow_many
from towline_broker.server.serving import BrokerServer
from towline_broker.server.streams import complain
from towline_broker.server.trimming import give_memory_back

log = logging.getLogger("towline.broker")

#: Seconds for opening a store that answers, and for a last try at one that does not.
OPENING = 60.0


def run(settings: Settings, ready_file: Path | None = None, sources: Sources | None = None) -> int:
    """Serves until a signal comes or a store fails; returns the exit code.

    ``ready_file`` holds the address for as long as the broker serves. ``sources``: where the
    settings came from, to be reread on SIGHUP. From another signal on the process ends after
    :func:`patience`, whatever hangs in it.
    """

    async def serve() -> int:
        if ready_file is not None:
            make_way(ready_file)
        stopping = Stopping(patience(settings), ready_file)
        stopping.listen()
        systemd = Systemd.from_environment()
        reloading = Reloading(settings, sources, systemd)
        reloading.listen(stopping)

        async with (
            systemd.told(stopping.asked, **times(settings)),
            shown_over_http(settings) as show,
        ):

            def started(server: BrokerServer) -> None:
                announce(server.serving, show(server), settings, ready_file)
                systemd.serving(f"serving on {server.address}")

                def take_over(changed: Settings) -> None:
                    server.reload(changed)
                    adapt(changed, stopping, systemd)

                reloading.begin(take_over)

            return await serve_until(stopping, settings, started)

    return to_the_end(serve(), ready_file, settings.event_loop)


def patience(settings: Settings) -> float:
    """Seconds that a broker takes to stop, at most."""
    return to_seconds(settings.drain_delay + settings.drain_timeout) + GRACE


def adapt(settings: Settings, stopping: Stopping, systemd: Systemd) -> None:
    """What a process as such has of settings that hold from now on."""
    configure_logs(settings.log_level, settings.log_format)
    stopping.patience = patience(settings)
    systemd.stop_seconds = times(settings)["stop_seconds"]


def times(settings: Settings) -> dict[str, float]:
    """How long systemd is to let it start and stop."""
    return {
        "start_seconds": to_seconds(settings.wait_for_store) + OPENING,
        "stop_seconds": patience(settings) + TELLING,
    }


def to_the_end(
    serving: Coroutine[Any, Any, int], ready_file: Path | None = None, loop: Choice = "asyncio"
) -> int:
    """The exit code of what serves, on a loop of its own; the ready file goes with it."""
    try:
        with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
            return runner.run(serving)
    except StartError as error:
        return refuse(str(error), error.exit_code)
    except Exception:
        log.exception("unexpected end", extra=event("unexpected_end"))
        return ExitCode.UNEXPECTED
    finally:
        serving.close()  # if there was no loop for it
        if ready_file is not None:
            remove(ready_file)


async def serve_until(
    stopping: Stopping,
    settings: Settings,
    started: Callable[[BrokerServer], None],
    *,
    shares_port: bool = False,
) -> int:
    """Calls ``started`` once the broker serves; returns the exit code. From its return on the
    process has LAST_SECONDS to end."""
    code: int = ExitCode.UNEXPECTED
    try:
        code = await _serve_until(stopping, settings, started, shares_port)
    finally:
        stopping.hard_end.within(LAST_SECONDS, code or ExitCode.CUT_OFF)
    return code


async def _serve_until(
    stopping: Stopping,
    settings: Settings,
    started: Callable[[BrokerServer], None],
    shares_port: bool,
) -> int:
    allow_many()
    try:
        server = await _started(stopping, settings, shares_port)
    except StartError as error:
        return refuse(str(error), error.exit_code)
    except StoreRefused as error:
        return refuse(f"store: {error}", ExitCode.STORE_REFUSED)
    except StoreUnavailable as error:
        return refuse(f"store: {error}", ExitCode.UNAVAILABLE)
    if server is None:
        log.info("stopped before it served", extra=event("stopped", served=False))
        return ExitCode.OK
    collect_seldom()
    trimming = asyncio.create_task(give_memory_back())
    try:
        await _tell(started, server, stopping)
        return await _serve(server, stopping)
    finally:
        trimming.cancel()


async def _tell(
    started: Callable[[BrokerServer], None], server: BrokerServer, stopping: Stopping
) -> None:
    """A broker of which nobody can be told as it was wanted does not serve."""
    try:
        started(server)
    except BaseException:  # a cancelled start, too, must close its stores
        await _end_at_once(server, ExitCode.UNEXPECTED, stopping)
        raise


async def _started(
    stopping: Stopping, settings: Settings, shares_port: bool
) -> BrokerServer | None:
    """None if it was asked to stop before it served."""
    starting = asyncio.create_task(start_broker(settings, shares_port=shares_port))
    asked = asyncio.create_task(stopping.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not starting.done():
        # Nothing was acknowledged yet.
        stopping.hard_end.within(LAST_SECONDS, ExitCode.CUT_OFF)
        starting.cancel()
        await asyncio.wait({starting})
    return None if starting.cancelled() else starting.result()


async def _serve(server: BrokerServer, stopping: Stopping) -> int:
    failed = server.broker.failed
    await first_of(failed.wait(), stopping.asked.wait())
    if not failed.is_set():
        settings = server.settings
        log.info(
            "draining for up to %g s; a second signal stops at once",
            to_seconds(settings.drain_delay + settings.drain_timeout),
            extra=event(
                "draining", seconds=to_seconds(settings.drain_delay + settings.drain_timeout)
            ),
        )
        drain = server.drain(settings.drain_timeout, settings.drain_delay)
        await first_of(failed.wait(), stopping.urgent.wait(), drain)
    code: int = ExitCode.OK
    if not (failed.is_set() or stopping.urgent.is_set()):
        code = await _close(server, stopping)
    if failed.is_set():
        log.error(
            "the store has failed: this broker ends, and answers nothing more",
            extra=event("store_failed"),
        )
        return await _end_at_once(server, ExitCode.STORE_FAILED, stopping)
    if stopping.urgent.is_set():
        log.warning("stopping at once", extra=event("stopping_at_once"))
        return await _end_at_once(server, 128 + stopping.signal, stopping)
    log.info("stopped", extra=event("stopped"))
    return code


async def _close(server: BrokerServer, stopping: Stopping) -> int:
    """After a drain; the exit code, unless a second signal has come or a store has failed."""
    try:
        await first_of(server.stop(), stopping.urgent.wait())
    except StoreFailed:
        server.broker.failed.set()
    except StoreError as error:
        log.error(
            "the store could not be closed: %s",
            error,
            extra=event("store_not_closed", reason=str(error)),
        )
        return ExitCode.CUT_OFF
    return ExitCode.OK


async def _end_at_once(server: BrokerServer, code: int, stopping: Stopping) -> int:
    """Closes the store if that can be done soon; what is acknowledged is safe in it either way."""
    stopping.hard_end.within(LAST_SECONDS, code)
    try:
        await server.stop(grace=None)
    except Exception:
        log.exception("closing the store failed", extra=event("store_not_closed"))
    return code


def refuse(message: str, code: ExitCode) -> int:
    """Says why the broker does not start; returns the code."""
    if in_json():
        log.error("%s", message, extra=event("not_started", code=int(code)))
    else:
        complain(f"towline-broker: {message}")
    return code
