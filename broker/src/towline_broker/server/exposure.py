"""Which brokers may be reached from other machines: those that are told to whom they talk, unheard
by others. Every room that listens asks here."""

from dataclasses import dataclass

from towline_broker.server.addresses import Address
from towline_broker.server.exits import ConfigError

_WAYS_OUT = {
    "TLS": "set tls.cert and tls.key",
    "identities": "give rights to tokens (towline-broker token create; auth.tokens), to an "
    "identity provider (auth.jwt) or to certificates (auth.subjects)",
}


@dataclass(frozen=True)
class Protection:
    """``tls``: what is said is encrypted. ``identity``: who says it has to prove who it is."""

    tls: bool
    identity: bool

    @property
    def complete(self) -> bool:
        return self.tls and self.identity

    @property
    def missing(self) -> list[str]:
        lacks = {"TLS": not self.tls, "identities": not self.identity}
        return [name for name, missing in lacks.items() if missing]

    def danger(self, address: object) -> str:
        """What strangers can do, in words."""
        if not self.identity:
            return f"anyone who reaches {address} can read and change jobs"
        return f"whoever is between a client and {address} can read jobs, and use its token"


def may_serve(address: Address, protection: Protection, insecure: bool) -> bool:
    """``address`` is a resolved one."""
    return address.is_loopback or protection.complete or insecure


def check_exposure(shown: str, address: Address, protection: Protection, insecure: bool) -> None:
    """Raises ConfigError for an address that would lay the broker open; ``shown`` is the setting as
    it was written."""
    if may_serve(address, protection, insecure):
        return
    missing = protection.missing
    lack = f"no {missing[0]}" if missing[1:] == [] else "neither TLS nor identities"
    ways_out = ", and ".join(_WAYS_OUT[name] for name in missing)
    raise ConfigError(
        f"listen: {shown} can be reached from other machines, and this broker has {lack}: "
        f"{protection.danger(address)}. Listen on 127.0.0.1; or {ways_out} (docs/security.md); "
        "or say --insecure if the network is closed to strangers"
    )
