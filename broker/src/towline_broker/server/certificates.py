"""The certificate of the broker, its key, and the authorities that vouch for clients.

gRPC asks for them at each handshake. The files are read again when they have changed, so that a
certificate is renewed without a restart; connections that stand are not touched. What does not go
together (half of a new pair, say) is told once, and what was good before stays in use.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from towline_broker.domain.events import event
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.files_in_use import FilesInUse
from towline_broker.server.looking import look_every
from towline_broker.server.open_files import read_bytes

log = logging.getLogger("towline.broker")

#: Seconds between two looks at the files where no handshake has one taken.
LOOK_EVERY = 10.0
#: A certificate that runs out within this time is warned of, once in each of the other.
SOON = timedelta(days=14)
REMIND_EVERY = timedelta(days=1)
#: Seconds after which gRPC is given the files anew where clients show certificates, and forgets the
#: sessions of TLS: who takes one up again shows none, and would be let in for days by one that has
#: run out meanwhile.
SESSIONS_LAST = 60.0
#: What gRPC agrees upon with its clients: with others each handshake fails.
CURVES = (ec.SECP256R1, ec.SECP384R1)


class WrongFiles(Exception):
    """The files are no certificate and key that serve. The message names the setting."""


@dataclass(frozen=True)
class Pems:
    """What the files hold, and holds together."""

    cert: bytes
    key: bytes
    client_ca: bytes | None
    not_before: datetime
    not_after: datetime
    #: The end of the authority for clients that ends first.
    client_ca_ends: datetime | None

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], self.client_ca)


class Certificates:
    """The files of ``settings`` as they are now. Safe from any thread.

    Raises ConfigError if they are no good to begin with.
    """

    def __init__(
        self, settings: TlsSettings, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        if settings.cert is None or settings.key is None:
            raise ConfigError("tls.cert and tls.key name no files")
        self._cert, self._key, self._client_ca = settings.cert, settings.key, settings.client_ca
        self._now = now
        self._lock = threading.Lock()
        paths = [path for path in (self._cert, self._key, self._client_ca) if path is not None]
        try:
            self._files = FilesInUse(paths, self._read, (WrongFiles,), self._tell)
        except WrongFiles as error:
            raise ConfigError(str(error)) from None
        self._pems = self._asked_for = self._files.content
        self._given_at = time.monotonic()
        self._reminded = datetime.min.replace(tzinfo=UTC)
        self._warn_of_open_key()

    @property
    def expires(self) -> datetime:
        """When the certificate in use runs out."""
        return self._pems.not_after

    @property
    def ends(self) -> dict[str, datetime]:
        """When what is in use runs out: "grpc", and "client_ca" if there is one."""
        pems = self._pems
        ends = {"grpc": pems.not_after}
        if pems.client_ca_ends is not None:
            ends["client_ca"] = pems.client_ca_ends
        return ends

    @property
    def demands_clients(self) -> bool:
        """Whether clients have to show certificates."""
        return self._client_ca is not None

    def for_grpc(self) -> grpc.ServerCredentials:
        return grpc.dynamic_ssl_server_credentials(
            self._pems.for_grpc(),
            self._news,  # type: ignore[arg-type]  # the stub forgets that None means: as before
            self.demands_clients,
        )

    async def watch(self) -> None:
        """Tells of what happens to the files, and of the end of the certificate; never returns."""

        async def look() -> None:
            self.look()
            self.remind()

        self.remind()
        await look_every(LOOK_EVERY, look, "looking at the certificate")

    def look(self) -> None:
        """Reads the files again if they have changed."""
        with self._lock:
            if not self._files.look():
                return
            found = self._files.content
            changed, self._pems = found != self._pems, found
        if changed:
            log.info(
                "new certificate in use, good until %s",
                _day(found.not_after),
                extra=event(
                    "certificate_renewed",
                    listener="grpc",
                    file=str(self._cert),
                    expires=found.not_after.isoformat(),
                ),
            )
            self._reminded = datetime.min.replace(tzinfo=UTC)
            self._warn_of_open_key()

    def remind(self) -> None:
        """Warns of a certificate that soon runs out, or has."""
        now, end = self._now(), self._pems.not_after
        if now - self._reminded < REMIND_EVERY:
            return
        if now >= end:
            log.error(
                "tls.cert: %s has run out on %s: no client takes it; renew it (it is read again "
                "without a restart)",
                *(self._cert, _day(end)),
                extra=event(
                    "certificate_expired",
                    listener="grpc",
                    file=str(self._cert),
                    expires=end.isoformat(),
                ),
            )
        elif end - now < SOON:
            log.warning(
                "tls.cert: %s runs out on %s: renew it",
                self._cert,
                _day(end),
                extra=event(
                    "certificate_expires",
                    listener="grpc",
                    file=str(self._cert),
                    expires=end.isoformat(),
                ),
            )
        elif now < self._pems.not_before:
            log.warning(
                "tls.cert: %s is good from %s on only; is the clock of this machine right?",
                *(self._cert, self._pems.not_before.isoformat()),
                extra=event(
                    "certificate_not_yet_good",
                    listener="grpc",
                    file=str(self._cert),
                    begins=self._pems.not_before.isoformat(),
                ),
            )
        else:
            return
        self._reminded = now

    def _news(self) -> grpc.ServerCertificateConfiguration | None:
        """For gRPC, before each handshake, in a thread of its own; None: as before."""
        self.look()
        with self._lock:
            now = time.monotonic()
            forgets = self.demands_clients and now - self._given_at >= SESSIONS_LAST
            if self._pems is self._asked_for and not forgets:
                return None
            self._asked_for, self._given_at = self._pems, now
            return self._pems.for_grpc()

    def _tell(self, error: Exception) -> None:
        log.error(
            "%s; the certificate that was read before stays in use (until %s)",
            *(error, _day(self._pems.not_after)),
            extra=event(
                "certificate_refused",
                listener="grpc",
                reason=str(error),
                expires=self._pems.not_after.isoformat(),
            ),
        )

    def _read(self) -> Pems:
        """Raises WrongFiles."""
        cert, key = _read("tls.cert", self._cert), _read("tls.key", self._key)
        leaf = _certificates("tls.cert", self._cert, cert)[0]
        _check_key(self._key, key, leaf, self._cert)
        client_ca = client_ca_ends = None
        if self._client_ca is not None:
            client_ca = _read("tls.client_ca", self._client_ca)
            authorities = _certificates("tls.client_ca", self._client_ca, client_ca)
            client_ca_ends = min(each.not_valid_after_utc for each in authorities)
        if leaf.not_valid_after_utc <= self._now():
            raise WrongFiles(
                f"tls.cert: the certificate in {self._cert} has run out on "
                f"{_day(leaf.not_valid_after_utc)}: renew it"
            )
        begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        return Pems(cert, key, client_ca, begins, ends, client_ca_ends)

    def _warn_of_open_key(self) -> None:
        try:
            found = self._key.stat()
        except OSError:
            return  # replaced at this moment: the next look will tell
        # A key of root's that is lent to a group, as Kubernetes does it, is meant so.
        open_to = stat.S_IROTH if found.st_uid == 0 else stat.S_IROTH | stat.S_IRGRP
        if os.name == "posix" and found.st_mode & open_to:
            log.warning(
                "tls.key: %s can be read by others on this machine: chmod 600 %s",
                *(self._key, self._key),
                extra=event("key_readable", file=str(self._key)),
            )


def _read(setting: str, path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise WrongFiles(f"{setting}: cannot read {path}: {error.strerror}") from None


def _certificates(setting: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    """At least one."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise WrongFiles(
            f"{setting}: {path} holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"
        ) from None


def _check_key(path: Path, pem: bytes, leaf: x509.Certificate, cert: Path) -> None:
    """Raises WrongFiles for what is no key, and for one that is not the certificate's."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise WrongFiles(
            f"tls.key: {path} is locked by a passphrase, which a broker cannot type: "
            f"openssl pkey -in {path} -out KEY writes it without"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise WrongFiles(
            f"tls.key: {path} holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)"
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and not isinstance(key.curve, CURVES)
    ):
        raise WrongFiles(
            f"tls.key: {path} is of a kind that gRPC does not serve: make one of RSA, or of ECDSA "
            "with the curve P-256 or P-384"
        )
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    try:
        certified = leaf.public_key().public_bytes(*form)
    except (ValueError, UnsupportedAlgorithm):
        certified = b""  # of a kind that nobody here knows
    if key.public_key().public_bytes(*form) != certified:
        raise WrongFiles(
            f"tls.key: {path} is not the key of the certificate in {cert}, which comes first there"
        )


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
