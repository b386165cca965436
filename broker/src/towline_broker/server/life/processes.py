"""Several broker processes on one address, and the one that looks after them.

Each process listens on the same port (SO_REUSEPORT), and the kernel hands each new connection to
one of them. The first is started alone, so that a store which is new, or is refused, meets one
process only; then the others are. One that dies later is replaced, while the rest serve on.
"""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from towline_broker.domain.events import event
from towline_broker.server.addresses import Address
from towline_broker.server.asking import RELOAD, TAKEN_OVER, Asked
from towline_broker.server.checking import check_queue_options
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.sources import Sources
from towline_broker.server.exits import ConfigError, ExitCode
from towline_broker.server.http.showing import processes_over_http
from towline_broker.server.identity.authenticating import Known
from towline_broker.server.life.announcing import announce
from towline_broker.server.life.ready_file import make_way
from towline_broker.server.life.reloading import Reloading
from towline_broker.server.life.running import adapt, patience, times, to_the_end
from towline_broker.server.life.stopping import LAST_SECONDS, Stopping, first_of
from towline_broker.server.life.systemd import Systemd
from towline_broker.server.particulars import Serving

log = logging.getLogger("towline.broker")

# -P: nothing in the working directory is taken for a module of the broker.
COMMAND = (sys.executable, "-P", "-m", "towline_broker.server.life.member")

#: Before a process that died is replaced; doubled while the new ones die young.
FIRST_DELAY = 0.1
MOST_DELAY = 10.0
#: One that has lived for so long did not die young.
YOUNG = 10.0
#: Seconds for a process to take settings over.
RELOAD_SECONDS = 10.0
#: Seconds from its last word to its end, of a process that dies.
ENDING_SECONDS = 1.0
#: Seconds by which those that do not end are killed before this process would be.
EARLIER = 1.0


def run_processes(
    settings: Settings, ready_file: Path | None = None, sources: Sources | None = None
) -> int:
    """As :func:`.running.run`, for ``settings.processes`` processes.

    If one of them cannot start to begin with, all end, and its exit code is returned.
    """
    return to_the_end(_run(settings, ready_file, sources), ready_file)


async def _run(settings: Settings, ready_file: Path | None, sources: Sources | None) -> int:
    if not sys.platform.startswith("linux"):
        raise ConfigError(
            "processes: only Linux spreads connections over several processes on one port; start "
            "brokers on ports of their own, and give clients all of the addresses"
        )
    if ready_file is not None:
        make_way(ready_file)
    stopping = Stopping(patience(settings), ready_file)
    stopping.listen()
    address, held = Address.parse(settings.listen).resolve().hold()
    with held:
        group = Group(settings.model_copy(update={"listen": str(address)}), stopping)
        systemd = Systemd.from_environment()
        reloading = Reloading(settings, sources, systemd)
        reloading.listen(stopping)

        auth = settings.auth

        def take_over(changed: Settings) -> None:
            nonlocal auth
            check_queue_options(changed)
            if changed.auth != auth:
                Known.of(changed.auth)  # so that all members can take them over, or none has to
            auth = changed.auth
            group.reload(changed)
            adapt(changed, stopping, systemd)

        def started(serving: Serving) -> None:
            announce(serving, show(), settings, ready_file)
            processes = settings.processes
            systemd.serving(f"serving on {serving.address} with {processes} processes")
            reloading.begin(take_over)

        async with (
            systemd.told(stopping.asked, **times(settings)),
            processes_over_http(settings, group.asked) as show,
        ):
            return await group.run(started)


class Member:
    """One process, from its start to its end."""

    def __init__(
        self,
        number: int,
        process: asyncio.subprocess.Process,
        told: asyncio.StreamWriter,
        said: asyncio.StreamReader,
    ) -> None:
        #: From 0; one that takes the place of another takes its number, too.
        self.number = number
        self._process = process
        self._said = said
        self.asked = Asked(told, said)
        #: Whether it has come to serve, and has not ended.
        self.serves = False
        #: By the monotonic clock.
        self.started = time.monotonic()

    @classmethod
    async def start(cls, settings: Settings, number: int) -> "Member":
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C reaches every process of a terminal's group: a member would hear it twice.
            start_new_session=True,
        )
        # Both are there, having been asked for.
        told = cast(asyncio.StreamWriter, process.stdin)
        told.write(_sent(settings).encode() + b"\n")
        return cls(number, process, told, cast(asyncio.StreamReader, process.stdout))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age(self) -> float:
        return time.monotonic() - self.started

    async def serving(self) -> Serving | None:
        """Returns once it serves; None if it has ended instead."""
        line = await self._said.readline()
        if line.endswith(b"\n"):
            self.serves = True
            return Serving.from_json(line)
        await self.ended()
        return None

    async def ended(self) -> int:
        """The exit code; of one that a signal killed, 128 and its number."""
        code = await self._process.wait()
        self.serves = False
        return code if code >= 0 else 128 - code

    def send(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


class Group:
    """As many members as the settings say, until they are asked to stop."""

    def __init__(self, settings: Settings, stopping: Stopping) -> None:
        self._settings = settings
        self._stopping = stopping
        self._telling: set[asyncio.Task[None]] = set()
        self._members: set[Member] = set()
        self._ending = asyncio.Event()
        self._killed = False

    def asked(self) -> dict[int, Asked]:
        """Of those that serve, by number."""
        serving = (member for member in self._members if member.serves)
        return {
            member.number: member.asked
            for member in sorted(serving, key=lambda member: member.number)
        }

    def reload(self, settings: Settings) -> None:
        """Hands them to each of its members, and to those that come later."""
        self._settings = settings.model_copy(update={"listen": self._settings.listen})
        for member in self._members:
            if member.serves:
                self._tell(member)

    def _tell(self, member: Member) -> None:
        async def tell() -> None:
            question = f"{RELOAD} {_sent(self._settings)}"
            if await member.asked.ask(question, RELOAD_SECONDS) == TAKEN_OVER:
                return
            try:
                async with asyncio.timeout(ENDING_SECONDS):
                    await member.ended()  # whoever replaces it has them
            except TimeoutError:
                log.error(
                    "broker process %d has not taken the settings over",
                    member.pid,
                    extra=event("process_not_reloaded", pid=member.pid),
                )

        task = asyncio.create_task(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def run(self, started: Callable[[Serving], None]) -> int:
        """Calls ``started`` once all serve; returns the exit code when all have ended."""
        signals = asyncio.create_task(self._pass_on_signals())
        try:
            serving = await self._start_all()
            if serving is not None and not self._ending.is_set():
                started(serving)
            else:
                self._end()
            return self._verdict(await asyncio.gather(*map(self._keep, list(self._members))))
        finally:
            signals.cancel()

    async def _start_all(self) -> Serving | None:
        """None if one of them does not come to serve."""
        first = await self._start(0)
        serving = await first.serving()
        if serving is None:
            return None
        others = [await self._start(number) for number in range(1, self._settings.processes)]
        seen = await asyncio.gather(*(member.serving() for member in others))
        return serving if all(seen) else None

    async def _start(self, number: int) -> Member:
        member = await Member.start(self._settings, number)
        self._members.add(member)
        if self._ending.is_set():
            member.send(signal.SIGTERM)
        return member

    async def _keep(self, member: Member) -> int:
        """Replaces it whenever it dies; returns how the last one ended."""
        delay = FIRST_DELAY
        while True:
            code = await member.ended()
            self._members.discard(member)
            if self._ending.is_set():
                return code
            delay = FIRST_DELAY if member.age > YOUNG else min(2 * delay, MOST_DELAY)
            log.error(
                "broker process %d has ended with %d; another starts in %g s",
                *(member.pid, code, delay),
                extra=event("process_ended", pid=member.pid, code=code, seconds=delay),
            )
            await first_of(asyncio.sleep(delay), self._ending.wait())
            if self._ending.is_set():
                return ExitCode.OK
            settings = self._settings
            try:
                member = await self._start(member.number)
            except OSError as error:
                # Tried again like one that ended at once, and not ten times a second.
                member.started = time.monotonic()
                log.error(
                    "another broker process cannot be started: %s",
                    error,
                    extra=event("process_not_started", reason=str(error)),
                )
                continue
            if await member.serving():
                log.info(
                    "broker process %d serves in its place",
                    member.pid,
                    extra=event("process_replaced", pid=member.pid),
                )
                if settings is not self._settings:  # reread while it started
                    self._tell(member)

    async def _pass_on_signals(self) -> None:
        await self._stopping.asked.wait()
        self._end()
        drained = asyncio.sleep(patience(self._settings) - EARLIER)
        await first_of(self._stopping.urgent.wait(), drained)
        if self._stopping.urgent.is_set():
            for member in self._members:
                member.send(self._stopping.signal)
            await asyncio.sleep(LAST_SECONDS - EARLIER)
        for member in self._members:
            log.error(
                "broker process %d does not end; killed",
                member.pid,
                extra=event("process_killed", pid=member.pid),
            )
            self._killed = True
            member.send(signal.SIGKILL)

    def _end(self) -> None:
        self._ending.set()
        for member in self._members:
            member.send(signal.SIGTERM)

    def _verdict(self, codes: Sequence[int]) -> int:
        if self._stopping.urgent.is_set():
            return 128 + self._stopping.signal
        if self._killed:
            return ExitCode.CUT_OFF
        # Told to stop before it could listen to signals: that is an end as good as any.
        asked = {ExitCode.OK, 128 + signal.SIGTERM}
        return next((code for code in codes if code not in asked), ExitCode.OK)


def _sent(settings: Settings) -> str:
    """In one line. Of a queue, of which there can be many, only what is set."""
    return settings.model_dump_json(exclude_defaults=True)
