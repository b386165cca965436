"""What proves who speaks to whom over TLS, as plain data.

An object of grpc cannot be looked into, so no other process can be given it; these can.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from towline.errors import ConfigurationError

CA_VARIABLE = "TOWLINE_CA"
CERT_VARIABLE = "TOWLINE_CERT"
KEY_VARIABLE = "TOWLINE_KEY"
NAME_VARIABLE = "TOWLINE_SERVER_NAME"


_Named: TypeAlias = tuple[str, "str | os.PathLike[str] | None"]
"""What has named a file, and its path."""


def _absolute(named: _Named) -> _Named:
    source, path = named
    return source, path and os.path.abspath(path)  # noqa: PTH100 - no pathlib.Path


@dataclass(frozen=True)
class _Files:
    """Where credentials were read."""

    ca: _Named
    key: _Named
    cert: _Named

    def signature(self) -> tuple[tuple[int, ...] | None, ...]:
        """Another one when a file has changed, or is another one behind the same name."""
        return tuple(_sign(path) for _, path in (self.ca, self.key, self.cert) if path)


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
    _files: _Files | None = field(default=None, repr=False, compare=False)

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

        Clients and workers read them again when they change, and go by the new ones from the next
        call on. Raises ConfigurationError for a file that cannot be read.
        """
        return cls._read_from(("ca", ca), ("key", key), ("cert", cert), server_name)

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
        return cls._read_from((CA_VARIABLE, ca), (KEY_VARIABLE, key), (CERT_VARIABLE, cert), name)

    @classmethod
    def _read_from(
        cls, ca: _Named, key: _Named, cert: _Named, server_name: str | None
    ) -> TlsCredentials:
        files = _Files(*map(_absolute, (ca, key, cert)))
        return cls(_read(ca), _read(key), _read(cert), server_name, files)

    @property
    def from_any_file(self) -> bool:
        """Whether there are files that can change."""
        return self._files is not None and bool(self._files.signature())

    def signature(self) -> tuple[tuple[int, ...] | None, ...]:
        """Return what is another one when a file has changed that these were read from."""
        return () if self._files is None else self._files.signature()

    def read_again(self) -> TlsCredentials:
        """Return what the files hold by now. Raises ConfigurationError for what cannot be read, or
        does not go together: half of a new pair, say."""
        if self._files is None:
            return self
        files = self._files
        found = self._read_from(files.ca, files.key, files.cert, self.server_name)
        if found != self:
            _check_pair(found, files)
        return found

    def for_grpc(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.root_certificates, self.private_key, self.certificate_chain
        )

    def hand_over(self) -> dict[str, Any]:
        """Return all of it as JSON values, with what is secret in it."""
        pems = {name: pem and pem.decode("latin-1") for name, pem in self._pems().items()}
        files = None if self._files is None else vars(self._files)
        return {**pems, "server_name": self.server_name, "files": files}

    @classmethod
    def handed_over(cls, told: dict[str, Any]) -> TlsCredentials:
        """Return the credentials that ``hand_over`` told of."""
        pems = {name: told[name] and told[name].encode("latin-1") for name in _PEMS}
        files = None
        if told["files"] is not None:
            files = _Files(**{kind: tuple(named) for kind, named in told["files"].items()})
        return cls(**pems, server_name=told["server_name"], _files=files)

    def _pems(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _PEMS}


_PEMS = ("root_certificates", "private_key", "certificate_chain")


def _read(named: _Named) -> bytes | None:
    """Raises ConfigurationError, naming what has named the file."""
    source, path = named
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


def _sign(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _check_pair(found: TlsCredentials, files: _Files) -> None:
    """Raises ConfigurationError for a key that is not that of its certificate: gRPC would only fail
    to connect."""
    (cert_source, cert), (key_source, key) = files.cert, files.key
    if cert is None or key is None:
        return
    import ssl  # only when files have changed

    named = f"{cert_source} and {key_source}: {os.fspath(cert)} and {os.fspath(key)}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except OSError as error:  # those of ssl are such
        reason = getattr(error, "reason", None) or error.strerror
        raise ConfigurationError(f"{named} do not go together: {reason}") from None
    if (found.certificate_chain, found.private_key) != (_read(files.cert), _read(files.key)):
        raise ConfigurationError(f"{named} are being written")
