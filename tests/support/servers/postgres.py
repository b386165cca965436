"""A PostgreSQL server."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.support.servers.binaries import require_server
from tests.support.servers.process import (
    HOST,
    ServerProcess,
    as_account,
    gone,
    text_of,
    wait_until,
)

_ROLE = "towline"
#: Whom the server runs as if we are root, which it refuses to run as.
_ACCOUNT = "nobody"
#: What makes tests fast that do not pull the plug.
_NOT_DURABLE = ("fsync=off", "full_page_writes=off")


class PostgresServer(ServerProcess):
    """``settings`` are those of postgresql.conf, as in ``"max_connections=20"``.

    Unless ``durable``, commits are not synced: they survive :meth:`stop` and :meth:`kill`, as the
    system keeps them, but no loss of power.
    """

    name = "postgres"
    #: Fast shutdown: open sessions are ended.
    stop_signal = signal.SIGINT

    def __init__(self, *settings: str, durable: bool = False) -> None:
        program = require_server("postgres")
        self._numbers = count(1)
        self._settings = (*(() if durable else _NOT_DURABLE), *settings)
        folder = _folder_open_to_all()
        self._programs = program.parent
        if os.geteuid() == 0:
            account = pwd.getpwnam(_ACCOUNT)
            self.user, self.group = account.pw_uid, account.pw_gid
            os.chown(folder, self.user, self.group)
            if not _open_to_all(program):
                self._programs = _copied(program.parent.parent, folder) / "bin"
        super().__init__(folder)
        self._data = self.folder / "data"
        try:
            self._initialize()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    @property
    def url(self) -> str:
        """Of the database that every server has, for looking after the server itself."""
        return self._url_of("postgres")

    def create_database(self) -> str:
        """The url of a new, empty database."""
        name = f"store_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Removes one again, whoever is connected to it."""
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, sql: str, url: str | None = None) -> str:
        """What psql prints for the statements: rows in lines, columns set apart by ``|``."""
        return self._run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url or self.url, "-c", sql)

    def kill(self) -> None:
        # The processes of the sessions would live on for a moment, and bar the next start.
        sessions = psutil.Process(self.pid).children(recursive=True)
        super().kill()
        for session in sessions:
            with suppress(psutil.NoSuchProcess):
                session.kill()
        for session in sessions:
            wait_until(partial(gone, session.pid), "a session's process ends")

    def _url_of(self, database: str) -> str:
        return f"postgresql://{_ROLE}@{self.address}/{database}"

    def _initialize(self) -> None:
        options = ["-U", _ROLE, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(self._data), *options, "--no-instructions")

    def _command(self) -> list[str]:
        settings = (
            f"listen_addresses={HOST}",
            f"port={self.port}",
            "unix_socket_directories=",
            "shared_buffers=64MB",
            *self._settings,
        )
        options = [word for setting in settings for word in ("-c", setting)]
        return [str(self._programs / "postgres"), "-D", str(self._data), *options]

    def _answers(self) -> bool:
        # What pg_ctl goes by: the server's number in the first line, its state in the eighth.
        lines = text_of(self._data / "postmaster.pid").splitlines()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            as_account([str(self._programs / program), *arguments], self.user, self.group),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout.strip()


def _folder_open_to_all() -> Path:
    """A temporary folder that another user can reach, if the server has to run as one."""
    parent = Path(tempfile.gettempdir())
    reachable = os.geteuid() != 0 or _open_to_all(parent)
    return Path(tempfile.mkdtemp(prefix="towline-postgres-", dir=parent if reachable else "/tmp"))


def _open_to_all(path: Path) -> bool:
    """Every user may enter all folders on the way there."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def _copied(installation: Path, folder: Path) -> Path:
    """The server's programs where its user can reach them (a few tens of megabytes)."""
    copied = folder / "pginstall"
    shutil.copytree(installation, copied)
    return copied
