"""The certificate of the broker, for HTTP: that of ``[tls]``, read again when its files change.

Who asks is not asked for one: probes have none.
"""

import logging
import ssl
from datetime import datetime

from towline_broker.domain.events import event
from towline_broker.server.configuration.tls_settings import TlsSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.files_in_use import FilesInUse
from towline_broker.server.looking import look_every

log = logging.getLogger("towline.broker")

#: Seconds between two looks at the files.
LOOK_EVERY = 10.0


class WebCertificate:
    """``context`` serves with what the files held when they were last good. Raises ConfigError if
    they are not good to begin with."""

    def __init__(self, tls: TlsSettings) -> None:
        if tls.cert is None or tls.key is None:
            raise ConfigError("http.tls: needs a certificate: set tls.cert and tls.key")
        self._cert, self._key = tls.cert, tls.key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            self._files = FilesInUse(
                *([self._cert, self._key], self._load, (OSError, ValueError), self._tell)
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"http.tls: {self._why(error)}") from None

    @property
    def expires(self) -> datetime:
        """When the certificate in use runs out."""
        return self._files.content

    async def watch(self) -> None:
        """For ever; to be cancelled."""
        await look_every(LOOK_EVERY, self.look, "looking at the certificate for HTTP")

    async def look(self) -> None:
        """Takes the files over if they have changed and hold together."""
        self._files.look()

    def _load(self) -> datetime:
        """When it runs out. Raises OSError, ValueError."""
        # Takes a while to load, and most brokers show nothing over TLS.
        from cryptography import x509

        ends = x509.load_pem_x509_certificates(self._cert.read_bytes())[0].not_valid_after_utc
        # First where nobody is served from: a pair that does not hold together is taken by half.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._cert, self._key, _no_phrase)
        self.context.load_cert_chain(self._cert, self._key, _no_phrase)
        return ends

    def _tell(self, error: Exception) -> None:
        # Half of a new pair, say: until it is whole, what was good stays in use.
        log.error(
            "http.tls: the new certificate is not taken: %s",
            self._why(error),
            extra=event("certificate_refused", listener="http", reason=self._why(error)),
        )

    def _why(self, error: Exception) -> str:
        match error:
            case ssl.SSLError():
                reason = error.reason
            case OSError():
                reason = error.strerror or ""
            case _:
                reason = "no certificate in PEM form"
        return f"tls.cert {self._cert} and tls.key {self._key} do not serve: {reason}"


def _no_phrase() -> str:
    """In the place of a question on the terminal."""
    return ""
