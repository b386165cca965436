"""Servers from Debian's packages, unpacked into a folder here: nothing is installed, and nobody has
to be an administrator.

    python -m bench.servers.debian      # or: make bench-servers

Where there is no apt-get, or it knows no such package, that is said, and what needs the server is
not measured.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(".bench-servers")
_ERLANG = (
    "asn1 base crypto eldap ftp inets mnesia os-mon parsetools public-key runtime-tools snmp ssl "
    "syntax-tools tftp tools xmerl"
)
PACKAGES = {
    "beanstalkd": ["beanstalkd"],
    "rabbitmq": ["rabbitmq-server", *(f"erlang-{part}" for part in _ERLANG.split())],
}


class Missing(Exception):
    """A server that this machine has not."""


def unpacked(server: str) -> Path:
    """The folder that stands for ``/``. Raises Missing."""
    folder = FOLDER.resolve() / server
    if not (folder / ".complete").exists():
        raise Missing(f"no {server}: `make bench-servers` unpacks Debian's package")
    return folder


def unpack(server: str) -> None:
    """Raises Missing."""
    folder = FOLDER.resolve() / server
    if (folder / ".complete").exists():
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Missing(f"no {server}: its package is unpacked by apt-get and dpkg-deb")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as downloads:
        Path(downloads).chmod(0o755)
        command = ["apt-get", "download", "-qq", *PACKAGES[server]]
        done = subprocess.run(command, cwd=downloads, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"no {server}: apt-get download: {done.stderr.strip().splitlines()[0]}")
        for package in sorted(Path(downloads).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    (folder / ".complete").touch()


def main() -> None:
    for server in PACKAGES:
        try:
            unpack(server)
        except Missing as missing:
            print(f"{missing} (apt-get update may help)", file=sys.stderr)
        else:
            print(f"{server}: in {FOLDER / server}")


if __name__ == "__main__":
    main()
