"""What proves who speaks to whom over TLS, as plain data.

An object of grpc cannot be looked into, so no other process can be given it; these can.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc

from towline.errors import ConfigurationError


@dataclass(frozen=True)
class TlsCredentials:
    """Certificates and keys in PEM form.

    root_certificates   of the authorities that vouch for the broker; None: those that grpc knows
    private_key         of this client, where the broker wants to see its certificate (mTLS)
    certificate_chain   that goes with the private key

    Raises ConfigurationError for what is no PEM, and for one of the last two without the other.
    """

    root_certificates: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    certificate_chain: bytes | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (isinstance(value, bytes) and b"-----BEGIN " in value):
                raise ConfigurationError(f"credentials: {name}: expected the bytes of a PEM file")
        if (self.private_key is None) != (self.certificate_chain is None):
            raise ConfigurationError(
                "credentials: private_key and certificate_chain go together: give both or neither"
            )

    def for_grpc(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.root_certificates, self.private_key, self.certificate_chain
        )
