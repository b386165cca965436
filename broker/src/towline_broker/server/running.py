"""One broker as a process: signals, and how it ends."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from towline_broker.domain.errors import StoreRefused, StoreUnavailable
from towline_broker.domain.time import to_seconds
from towline_broker.drivers.interface import Durability
from towline_broker.server.banner import banner, shown_url
from towline_broker.server.exits import ExitCode, StartError
from towline_broker.server.serving import VERSION, BrokerServer
from towline_broker.server.settings import Settings

log = logging.getLogger("towline.broker")

#: How long a broker that ends at once may still take to close its store.
LAST_SECONDS = 3.0

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(settings: Settings, ready_file: Path | None = None) -> int:
    """Serves until a signal comes or the store fails; returns the exit code.

    ``ready_file`` holds the address for as long as the broker serves.
    """
    try:
        return asyncio.run(_run(settings, ready_file))
    except Exception:
        log.exception("unexpected end")
        return ExitCode.UNEXPECTED
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


async def _run(settings: Settings, ready_file: Path | None) -> int:
    stopping = Stopping()
    stopping.listen()
    try:
        server = BrokerServer(settings)
        await server.start()
    except StartError as error:
        return _refuse(str(error), error.exit_code)
    except StoreRefused as error:
        return _refuse(f"store: {error}", ExitCode.STORE_REFUSED)
    except StoreUnavailable as error:
        return _refuse(f"store: {error}", ExitCode.UNAVAILABLE)
    _announce(server, settings, ready_file)
    return await _serve(server, settings, stopping)


class Stopping:
    """Signals: the first asks for a drain, the second for an end at once, the third kills."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.urgent = asyncio.Event()
        self.signal = 0

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._heard, number)

    def _heard(self, number: int) -> None:
        if not self.asked.is_set():
            self.asked.set()
            return
        self.signal = number
        self.urgent.set()
        loop = asyncio.get_running_loop()
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)


async def _serve(server: BrokerServer, settings: Settings, stopping: Stopping) -> int:
    failed = server.broker.failed
    await _first_of(failed.wait(), stopping.asked.wait())
    if not failed.is_set():
        log.info(
            "draining for up to %g s; a second signal stops at once",
            to_seconds(settings.drain_timeout),
        )
        await _first_of(failed.wait(), stopping.urgent.wait(), server.drain(settings.drain_timeout))
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


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
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


def _announce(server: BrokerServer, settings: Settings, ready_file: Path | None) -> None:
    address, store = str(server.address), shown_url(settings.store)
    capabilities = server.broker.capabilities
    _say(f"listening on {address}")
    if settings.log_format == "console":
        _say(banner(VERSION, server.address, store, capabilities))
    else:
        log.info(
            "serving",
            extra={
                "address": address,
                "store": store,
                "durability": capabilities.durability.name.lower(),
                "version": VERSION,
            },
        )
    if capabilities.durability is not Durability.DURABLE:
        log.warning("this store is not durable: %s", capabilities.durability_note)
    if settings.insecure and not server.address.is_loopback:
        log.warning("insecure: anyone who reaches %s can read and change jobs", address)
    if ready_file is not None:
        partial = ready_file.with_name(ready_file.name + ".partial")
        partial.write_text(address + "\n", encoding="utf-8")
        partial.replace(ready_file)


def _refuse(message: str, code: ExitCode) -> int:
    print(f"towline-broker: {message}", file=sys.stderr)  # noqa: T201 -- said to whoever started it
    return code


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 -- scripts and people read it on standard output
