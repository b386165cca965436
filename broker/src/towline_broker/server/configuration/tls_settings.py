"""What can be set of TLS. The files themselves are looked at when the broker starts:
:mod:`~towline_broker.server.certificates`."""

from pathlib import Path
from typing import Self

from pydantic import model_validator

from towline_broker.server.configuration.marks import Section
from towline_broker.server.configuration.store_settings import Mistakes


class TlsSettings(Section):
    """Files in PEM form, read again when they change. Without them nothing is encrypted."""

    cert: Path | None = None
    """The certificate of the broker, and behind it those of the authorities in between."""
    key: Path | None = None
    """Its private key, without a passphrase; of RSA, or of ECDSA on P-256 or P-384."""
    client_ca: Path | None = None
    """Authorities that vouch for clients: each client has to show a certificate of theirs."""

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise Mistakes([(("tls", given), f"is of no use without tls.{missing}: set both")])
        if self.client_ca is not None and self.cert is None:
            what = "a broker that asks for certificates shows its own first: set tls.cert, tls.key"
            raise Mistakes([(("tls", "client_ca"), what)])
        return self

    @property
    def enabled(self) -> bool:
        return self.cert is not None
