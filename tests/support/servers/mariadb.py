"""A MariaDB server."""

import os
import subprocess
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.support.servers.binaries import find_program, require_server
from tests.support.servers.process import HOST, ServerProcess, text_of

_USER, _PASSWORD = "towline", "mariadb-of-the-tests"
#: What makes tests fast that do not pull the plug.
_NOT_DURABLE = ("innodb_doublewrite=OFF", "innodb_flush_method=nosync")


class MariaDBServer(ServerProcess):
    """``settings`` are those of the server, as in ``"max_allowed_packet=1M"``.

    Unless ``durable``, commits survive :meth:`stop` and :meth:`kill`, as the system keeps them, but
    no loss of power. The server itself believes that it syncs them.
    """

    name = "mariadb"

    def __init__(self, *settings: str, durable: bool = False) -> None:
        self._program = require_server("mariadb")
        super().__init__()
        self._numbers = count(1)
        self._settings = (*(() if durable else _NOT_DURABLE), *settings)
        self._data = self.folder / "data"
        self._install()

    @property
    def url(self) -> str:
        """Of the database that every server has, for looking after the server itself."""
        return self._url_of("mysql")

    def create_database(self) -> str:
        """The url of a new, empty database."""
        name = f"store_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self._url_of(name)

    def drop_database(self, url: str) -> None:
        """Removes one again, whoever is connected to it."""
        self.execute(f"DROP DATABASE {url.rpartition('/')[2]}")

    def execute(self, sql: str, url: str | None = None) -> str:
        """What the client prints for the statements: rows in lines, columns set apart by tabs."""
        database = (url or self.url).rpartition("/")[2]
        client = str(_program("mariadb"))
        login = ["-h", HOST, "-P", str(self.port), "-u", _USER, f"-p{_PASSWORD}"]
        return self._run([client, "--no-defaults", "-BN", "--protocol=tcp", *login, database], sql)

    def _url_of(self, database: str) -> str:
        return f"mysql://{_USER}:{_PASSWORD}@{self.address}/{database}"

    def _install(self) -> None:
        installer = str(_program("mariadb-install-db"))
        options = [f"--datadir={self._data}", "--skip-test-db", "--skip-name-resolve"]
        self._run(
            [installer, "--no-defaults", *options, "--auth-root-authentication-method=normal"]
        )
        (self.folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{_USER}'@'%' IDENTIFIED BY '{_PASSWORD}';\n"
            f"GRANT ALL ON *.* TO '{_USER}'@'%' WITH GRANT OPTION;\n"
        )

    def _command(self) -> list[str]:
        options = [
            f"datadir={self._data}",
            f"bind-address={HOST}",
            f"port={self.port}",
            f"socket={self.folder / 'socket'}",
            f"pid-file={self.folder / 'pid'}",
            f"init-file={self.folder / 'init.sql'}",
            *(["user=root"] if os.geteuid() == 0 else []),
            "skip-name-resolve",
            "innodb_buffer_pool_size=64M",
            "innodb_log_file_size=64M",
            *self._settings,
        ]
        return [str(self._program), "--no-defaults", *(f"--{option}" for option in options)]

    def _environment(self) -> dict[str, str]:
        # A server that starts removes what it takes for the remains of another in its place for
        # temporary tables.
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {**os.environ, "TMPDIR": str(self.folder / "tmp")}

    def _answers(self) -> bool:
        # The server writes its number there when it listens.
        return text_of(self.folder / "pid").strip() == str(self.pid)

    def _run(self, command: list[str], text: str = "") -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{Path(command[0]).name}: {done.stderr or done.stdout}"
        return done.stdout.strip()


def login_of(url: str) -> dict[str, Any]:
    """What a client is told to connect to the database of this url."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or 0,
        "user": parts.username,
        "password": parts.password or "",
        "database": parts.path[1:],
    }


def _program(name: str) -> Path:
    """One that comes with the server."""
    found = find_program(name)
    assert found is not None, f"MariaDB is here, but its {name} is not"
    return found
