"""What goes wrong with a Redis that brokers share, made to happen on purpose while they use it."""

import random
import time
from contextlib import suppress
from typing import Any

import redis

from tests.support.servers.process import wait_until
from tests.support.servers.redis import RedisServer

#: Settings by which the faults can be made: a script counts as too long soon, and a snapshot that
#: fails makes the server refuse changes.
FAULTY = ("lua-time-limit 100", "save 3600 1000000", "dbfilename snapshot")
#: Takes seconds, and changes nothing.
_LONG_SCRIPT = """
local function now() local t = redis.call('TIME') return t[1] * 1000 + t[2] / 1000 end
local till = now() + ARGV[1]
while now() < till do end
return 1
"""


class RedisFaults:
    """Each method returns once the fault is over."""

    def __init__(self, server: RedisServer, chance: random.Random) -> None:
        """``server`` has the settings :data:`FAULTY`."""
        self.server = server
        self.chance = chance
        #: Connections that were cut so far.
        self.cut = 0

    def crash(self) -> None:
        """kill -9, and a start."""
        self.server.kill()
        self.server.start()

    def restart(self) -> None:
        self.server.stop()
        self.server.start()

    def _execute(self, *command: str | int) -> Any:
        """Until the server is not BUSY: on a slow machine a script of the brokers counts as long,
        too."""
        while True:
            try:
                return self.server.execute(*command)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSY"):
                    raise
                time.sleep(0.05)

    def cut_connections(self, times: int = 10, pause: float = 0.05) -> None:
        """All of them, again and again."""
        for _ in range(times):
            for kind in ("normal", "pubsub"):
                self.cut += self._execute("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            time.sleep(pause)

    def forget_scripts(self, times: int = 20, pause: float = 0.02) -> None:
        for _ in range(times):
            self._execute("SCRIPT", "FLUSH")
            time.sleep(pause)

    def run_long_script(self, seconds: float) -> None:
        """Another program does; meanwhile the server tells everybody that it is BUSY."""
        self._execute("EVAL", _LONG_SCRIPT, 0, round(seconds * 1000))

    def be_full(self, seconds: float) -> None:
        self._execute("CONFIG", "SET", "maxmemory", 1)
        time.sleep(seconds)
        self._execute("CONFIG", "SET", "maxmemory", 0)

    def miss_replicas(self, seconds: float) -> None:
        """It wants replicas that it does not have."""
        self._execute("CONFIG", "SET", "min-replicas-to-write", 1)
        time.sleep(seconds)
        self._execute("CONFIG", "SET", "min-replicas-to-write", 0)

    def fail_to_save(self, seconds: float) -> None:
        """It cannot write its disk, and takes no change (MISCONF)."""
        snapshot = self.server.folder / "snapshot"
        snapshot.unlink(missing_ok=True)
        # A snapshot cannot take the place of a folder.
        snapshot.mkdir()
        self._save("err")
        time.sleep(seconds)
        snapshot.rmdir()
        self._save("ok")

    def stand_still(self, seconds: float) -> None:
        """The host of the server hangs, and goes on."""
        self.server.pause()
        time.sleep(seconds)
        self.server.resume()

    def _save(self, outcome: str) -> None:
        def done() -> bool:
            # One may be under way.
            with suppress(redis.ResponseError):
                self._execute("BGSAVE")
            status = self.server.info("persistence")
            return not status["rdb_bgsave_in_progress"] and bool(
                status["rdb_last_bgsave_status"] == outcome
            )

        wait_until(done, f"a snapshot ends with {outcome!r}")
