"""The address that a broker listens on."""

import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from towline_broker.server.exits import AddressError

_REASONS = {
    errno.EADDRINUSE: (
        "the port is in use; is another broker running? Choose another with {option} HOST:PORT"
    ),
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "ports below 1024 are for privileged users; choose another",
}


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def parse(text: str) -> "Address":
        """From ``HOST:PORT`` or ``[IPV6]:PORT``. Raises ValueError."""
        host, colon, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{text!r}: write an IPv6 address in brackets, as in '[::1]:7480'")
        if not colon or not host:
            raise ValueError(f"{text!r} is no address: expected HOST:PORT, as in '127.0.0.1:7480'")
        if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
            raise ValueError(f"{text!r}: expected a port of 0 to 65535 (0: any free one)")
        return Address(host, int(port))

    def resolve(self, setting: str = "") -> "Address":
        """With the number of the host in the place of its name. Raises AddressError, which names
        the ``setting`` if it is not the main address.

        A name can stand for several addresses, and gRPC is content if it gets one of them: then two
        brokers could both seem to have the same port. So it gets one to begin with.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            where = f"{setting}: " if setting else ""
            reason = error.strerror or error
            raise AddressError(f"{where}cannot listen on {self}: {reason}") from None
        # 127.0.0.1 before ::1, whatever order the machine has.
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        return Address(str(found[0][4][0]), self.port)

    def check_free(self, option: str = "--listen") -> None:
        """Raises AddressError, with the reason that gRPC would tell its own log only. Whoever takes
        the port between this and gRPC's own try meets gRPC's error."""
        with self._socket() as probe, self._explained(option=option):
            probe.bind((self.host, self.port))
            probe.listen()

    def hold(self) -> "tuple[Address, socket.socket]":
        """Takes the port for processes that will listen on it with SO_REUSEPORT, and for no others;
        returns the address with the real number of the port. Raises AddressError.

        The socket holds the port until it is closed. It does not listen, so no connection comes its
        way.
        """
        held = self._socket()
        with self._explained():
            held.bind((self.host, self.port))
        # Now and not before: to whoever binds from here on, the port is either shared or in use.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return Address(self.host, held.getsockname()[1]), held

    def listening(self, setting: str, option: str) -> "tuple[Address, socket.socket]":
        """A socket that listens there, for nobody else to share, and the address with the real
        number of the port. Raises AddressError, which names the setting and the option."""
        made = self._socket()
        try:
            with self._explained(setting, option):
                made.bind((self.host, self.port))
                made.listen()
        except AddressError:
            made.close()
            raise
        return Address(self.host, made.getsockname()[1]), made

    def _socket(self) -> socket.socket:
        made = socket.socket(
            socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM
        )
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return made

    @contextmanager
    def _explained(self, setting: str = "", option: str = "--listen") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f"{setting}: " if setting else ""
            reason = _REASONS.get(error.errno or 0, str(error.strerror)).format(option=option)
            raise AddressError(f"{where}cannot listen on {self}: {reason}") from None

    @property
    def is_loopback(self) -> bool:
        """Only for a resolved address."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
