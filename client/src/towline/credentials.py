"""What proves who speaks to whom over TLS, as plain data.

An object of grpc cannot be looked into, so no other process can be given it; these can.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from towline.errors import ConfigurationError

CA_VARIABLE = "TOWLINE_CA"
CERT_VARIABLE = "TOWLINE_CERT"
KEY_VARIABLE = "TOWLINE_KEY"
NAME_VARIABLE = "TOWLINE_SERVER_NAME"


@dataclass(frozen=True)
class TlsCredentials:
    """Certificates and keys in PEM form.

    root_certificates   of the authorities that vouch for the broker; None: those that grpc knows
    private_key         of this client, where the broker wants to see its certificate (mTLS)
    certificate_chain   that goes with the private key
    server_name         that the certificate of the broker has, where the address has another one:
                        a number, or a list of several brokers

    Raises ConfigurationError for what is no PEM, and for a private key without a certificate chain
    or the other way round.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        for name, value in self._pems().items():
            if value is not None and not (isinstance(value, bytes) and b"-----BEGIN " in value):
                raise ConfigurationError(f"credentials: {name}: expected the bytes of a PEM file")
        if (self.private_key is None) != (self.certificate_chain is None):
            raise ConfigurationError(
                "credentials: private_key and certificate_chain go together: give both or neither"
            )
        server: object = self.server_name
        if server is not None and not (isinstance(server, str) and server):
            raise ConfigurationError(f"credentials: server_name: expected a name, got {server!r}")

    @classmethod
    def from_files(
        cls,
        ca: str | os.PathLike[str] | None = None,
        *,
        cert: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
    ) -> TlsCredentials:
        """Read the files: of authorities, and of this client's certificate and its key.

        Raises ConfigurationError for a file that cannot be read.
        """
        read = {
            "root_certificates": _read("ca", ca),
            "private_key": _read("key", key),
            "certificate_chain": _read("cert", cert),
        }
        return cls(**read, server_name=server_name)

    @classmethod
    def from_environment(cls) -> TlsCredentials | None:
        """Read the files that TOWLINE_CA, TOWLINE_CERT and TOWLINE_KEY name; TOWLINE_SERVER_NAME is
        the name of the broker. None if none of them is set. Raises ConfigurationError."""
        variables = (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE, NAME_VARIABLE)
        ca, cert, key, name = (os.environ.get(each) or None for each in variables)
        if ca is cert is key is name is None:
            return None
        if (cert is None) != (key is None):
            raise ConfigurationError(
                f"{CERT_VARIABLE} and {KEY_VARIABLE} go together: set both or neither"
            )
        return cls(
            _read(CA_VARIABLE, ca), _read(KEY_VARIABLE, key), _read(CERT_VARIABLE, cert), name
        )

    def for_grpc(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.root_certificates, self.private_key, self.certificate_chain
        )

    def hand_over(self) -> dict[str, Any]:
        """Return all of it as JSON values, with what is secret in it."""
        pems = {name: pem and pem.decode("latin-1") for name, pem in self._pems().items()}
        return {**pems, "server_name": self.server_name}

    @classmethod
    def handed_over(cls, told: dict[str, Any]) -> TlsCredentials:
        """Return the credentials that ``hand_over`` told of."""
        name = told["server_name"]
        pems = {key: pem and pem.encode("latin-1") for key, pem in told.items()}
        return cls(**{**pems, "server_name": name})

    def _pems(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "server_name"}


def _read(source: str, path: str | os.PathLike[str] | None) -> bytes | None:
    """Raises ConfigurationError, naming what has named the file."""
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{source}: cannot read {os.fspath(path)}: {error.strerror}"
        ) from None
    if b"-----BEGIN " not in content:
        raise ConfigurationError(
            f"{source}: {os.fspath(path)} is no PEM file (-----BEGIN ...-----)"
        )
    return content
