"""Authorities and certificates for tests, made when they are needed."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from towline import TlsCredentials

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Certificate:
    """In PEM form."""

    cert: bytes
    key: bytes

    def write(self, folder: Path, name: str = "broker") -> tuple[Path, Path]:
        """Files of the certificate and of its key, which nobody else may read. Those that are there
        are replaced as a tool for renewals does it: the key first."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in ((key, self.key), (cert, self.cert)):
            partial = path.with_suffix(".partial")
            partial.touch(mode=0o600)
            partial.write_bytes(content)
            partial.replace(path)
        return cert, key


class Authority:
    """Vouches for certificates."""

    def __init__(
        self, name: str = "Test authority", *, ends: timedelta = timedelta(days=400)
    ) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.now(UTC)
        made = (
            _builder(self._name, self._name, self._key)
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = made.public_bytes(Encoding.PEM)

    def write(self, folder: Path, name: str = "ca") -> Path:
        path = folder / f"{name}.pem"
        path.write_bytes(self.pem)
        return path

    def issue(
        self,
        name: str = "broker",
        also: Sequence[str] = ("localhost", "127.0.0.1"),
        *,
        starts: timedelta = timedelta(days=-300),
        ends: timedelta = timedelta(days=90),
        key: Key | None = None,
        passphrase: bytes | None = None,
    ) -> Certificate:
        """``also``: further names, and addresses; ``starts`` and ``ends``: from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = (
            _builder(_name(name), self._name, key)
            .not_valid_before(now + starts)
            .not_valid_after(now + ends)
        )
        if also:
            names = x509.SubjectAlternativeName([_general_name(each) for each in also])
            builder = builder.add_extension(names, critical=False)
        made = builder.sign(self._key, hashes.SHA256())
        lock: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            lock = BestAvailableEncryption(passphrase)
        return Certificate(
            made.public_bytes(Encoding.PEM),
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock),
        )

    def credentials(self, client: Certificate | None = None) -> TlsCredentials:
        """Of a client that trusts this authority, and shows that certificate."""
        if client is None:
            return TlsCredentials(self.pem)
        return TlsCredentials(self.pem, client.key, client.cert)


def _builder(subject: x509.Name, issuer: x509.Name, key: Key) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
