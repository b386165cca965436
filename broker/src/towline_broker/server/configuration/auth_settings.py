"""What can be set of identity and rights. The files themselves are looked at when the broker
starts: in the room "identity"."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from towline_broker.domain.identity import Rights
from towline_broker.domain.time import MINUTE, SECOND, Micros
from towline_broker.drivers.urls import shown_url
from towline_broker.server.configuration.marks import Expected, Secret, Section
from towline_broker.server.configuration.quantities import Duration
from towline_broker.server.configuration.queue_settings import QueueName
from towline_broker.server.configuration.store_settings import Mistakes

#: Each proves that who made the signature has the private key; those with a shared secret, and
#: "none", are not to be had.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RightsSettings(Section):
    """Names of queues, or patterns in which * stands for any text."""

    push: tuple[QueueName, ...] = ()
    """Queues to push jobs to, whose jobs may be followed and cancelled."""
    work: tuple[QueueName, ...] = ()
    """Queues to reserve jobs from."""
    admin: tuple[QueueName, ...] = ()
    """Queues to look into and to decide about: dead letters, pause, purge, move."""

    def to_rights(self) -> Rights:
        return Rights.of(push=self.push, work=self.work, admin=self.admin)


def _url(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return text.strip()
    raise ValueError("expected a url that begins with https://: who could change what comes from "
                     "there could make up identities")  # fmt: skip


class JwtSettings(Section):
    """Tokens of an identity provider, signed by it. Exactly one of key, jwks and jwks_url."""

    issuer: Annotated[str, Field(min_length=1)]
    """Who makes them: their claim iss has to be this."""
    audience: Annotated[str, Field(min_length=1)]
    """What they are made for: their claim aud has to be, or to hold, this."""
    key: Path | None = None
    """The issuer's public key, in PEM form, read again when it changes."""
    jwks: Path | None = None
    """The issuer's public keys as a JSON Web Key Set, read again when it changes."""
    jwks_url: (
        Annotated[str, AfterValidator(_url), Expected("an https:// url"), Secret(shown_url)] | None
    ) = None
    """Where the issuer publishes them, fetched every five minutes and for a key not yet known."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    """Signatures that are taken."""
    leeway: Annotated[Micros, Duration(0, 10 * MINUTE)] = 30 * SECOND
    """How far the issuer's clock may be from this one."""
    subject_claim: Annotated[str, Field(min_length=1)] = "sub"
    """The claim that names who calls."""
    rights_claim: Annotated[str, Field(min_length=1)] = "towline"
    """The claim with the rights, such as {"push": ["emails.*"], "work": []}."""
    subjects: Mapping[str, RightsSettings] = {}
    """Rights by subject, for issuers that cannot put them into tokens. They count in place of the
    claim."""

    @property
    def source_of_keys(self) -> tuple[Path | None, Path | None, str | None]:
        return self.key, self.jwks, self.jwks_url

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Self:
        given = [name for name in ("key", "jwks", "jwks_url") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) if given else "none"
            raise ValueError(f"set exactly one of key, jwks and jwks_url; found {found}")
        return self


class AuthSettings(Section):
    """Who may call, and what they may do. As soon as any of it is set, every call has to say who
    makes it."""

    tokens: Path | None = None
    """The file that "towline-broker token" keeps, read again when it changes."""
    jwt: JwtSettings | None = None
    """Tokens of an identity provider."""
    subjects: Mapping[str, RightsSettings] = {}
    """Rights by the name in a client's certificate: its first alternative name that is listed here,
    or its common name if it has no alternative names. Needs tls.client_ca."""

    @property
    def enabled(self) -> bool:
        """Whether anybody is asked who they are."""
        return bool(self.tokens or self.jwt or self.subjects)

    def check_certificates(self, client_ca: Path | None) -> None:
        """Raises Mistakes if certificates are to give rights that nobody vouches for."""
        if self.subjects and client_ca is None:
            what = "need tls.client_ca: without it no client shows a certificate"
            raise Mistakes([(("auth", "subjects"), what)])
