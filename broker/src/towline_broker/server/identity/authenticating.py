"""The credentials that this broker knows: bearer tokens, tokens of an identity provider, subjects
of certificates."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from towline_broker.domain.errors import CannotVerify, Unauthenticated
from towline_broker.domain.identity import Identity
from towline_broker.interceptors.authentication import Credential
from towline_broker.server.configuration.auth_settings import AuthSettings
from towline_broker.server.identity.tokens_file import PREFIX, TokensFile, digest_of, expired_since
from towline_broker.server.looking import look_every

if TYPE_CHECKING:
    from towline_broker.server.identity.jwt_verifier import JwtVerifier

#: Seconds between two looks at the files when no call has one taken: parked calls of a token that
#: was revoked end within it.
LOOK_EVERY = 1.0

NOT_KNOWN = "the token is none of this broker's: it is mistyped, or was revoked"


@dataclass(frozen=True)
class Known:
    """Whatever some settings give rights to: replaced as a whole, so that no call meets a part."""

    settings: AuthSettings
    tokens: TokensFile | None
    jwt: "JwtVerifier | None"
    subjects: Mapping[bytes, Credential]

    @classmethod
    def of(cls, settings: AuthSettings, before: "Known | None" = None) -> "Known":
        """With what can stay as it was ``before``. Raises ConfigError if a file is no good."""
        subjects = {
            subject.encode(): Credential(Identity(f"cert:{subject}", rights.to_rights()))
            for subject, rights in settings.subjects.items()
        }
        return cls(settings, _tokens(settings, before), _verifier(settings, before), subjects)


class Credentials:
    """Those of ``settings``. Raises ConfigError if a file is no good."""

    def __init__(self, settings: AuthSettings) -> None:
        self._known = Known.of(settings)

    def prepare(self, settings: AuthSettings) -> Known:
        """What is known by these settings, to be put in force by :meth:`replace`.

        Raises ConfigError if a file is no good, and changes nothing in any case.
        """
        if settings == self._known.settings:
            return self._known
        return Known.of(settings, self._known)

    def replace(self, known: Known) -> None:
        """From here on calls are asked for these. Keys that have to be fetched are within a second,
        or by the first token; until then nobody is let in by them."""
        self._known = known

    async def start(self) -> None:
        """Fetches what has to be fetched. That it cannot be is told, and tried again."""
        if self._known.jwt is not None:
            await self._known.jwt.keys.start()

    async def watch(self, changed: Callable[[], None]) -> None:
        """Reads files again when they have changed, and says so; never returns."""
        generation = self._generation

        async def look_at_tokens() -> None:
            nonlocal generation
            tokens = self._known.tokens
            if tokens is not None:
                tokens.look()
            # A call may have had the file read.
            if self._generation != generation:
                generation = self._generation
                changed()

        # Each by itself: an issuer that takes its time must not keep a revoked token good.
        await asyncio.gather(
            look_every(LOOK_EVERY, look_at_tokens, "looking at the file of tokens"),
            look_every(LOOK_EVERY, self._look_at_keys, "looking at the keys of the issuer"),
        )

    async def by_token(self, token: str) -> Credential:
        if token.startswith(PREFIX):
            return self._opaque(token)
        verifier = self._known.jwt
        if verifier is not None:
            credential = await verifier.verify(token)
            if self._known.jwt is not verifier:  # replaced while it looked for a key
                raise CannotVerify("who vouches for tokens has just changed: try again")
            return credential
        raise Unauthenticated(NOT_KNOWN)

    def by_certificate(self, names: Iterable[bytes]) -> Credential | None:
        for name in names:
            known = self._known.subjects.get(name)
            if known is not None:
                return known
        return None

    def by_now(self, credential: Credential) -> Credential | None:
        tokens, verifier = self._known.tokens, self._known.jwt
        found: Credential | None
        if credential.digest:
            found = None if tokens is None else tokens.find(credential.digest)
        elif credential.verifier is not None:
            found = None if verifier is None else replace(credential, verifier=verifier)
        else:
            found = self._known.subjects.get(credential.identity.name.partition(":")[2].encode())
        return None if found is None or expired_since(found) else found

    def _opaque(self, token: str) -> Credential:
        tokens = self._known.tokens
        credential = None if tokens is None else tokens.find(digest_of(token))
        if credential is None:
            raise Unauthenticated(NOT_KNOWN)
        expired = expired_since(credential)
        if expired is not None:
            raise Unauthenticated(f"{credential.identity.name} has expired at {expired}")
        return credential

    @property
    def _generation(self) -> int:
        tokens = self._known.tokens
        return 0 if tokens is None else tokens.generation

    async def _look_at_keys(self) -> None:
        verifier = self._known.jwt  # it may be replaced meanwhile
        if verifier is not None and await verifier.keys.look():
            verifier.forget()


def _tokens(settings: AuthSettings, before: Known | None) -> TokensFile | None:
    """Raises ConfigError."""
    if before is not None and settings.tokens == before.settings.tokens:
        return before.tokens
    return None if settings.tokens is None else TokensFile(settings.tokens)


def _verifier(settings: AuthSettings, before: Known | None) -> "JwtVerifier | None":
    """With the keys of before if they come from the same place. Raises ConfigError."""
    wanted, had = settings.jwt, None if before is None else before.settings.jwt
    if wanted is None:
        return None
    verifier = None if before is None else before.jwt
    if wanted == had:
        return verifier
    # The library takes a tenth of a second to import.
    from towline_broker.server.identity.jwt_verifier import JwtVerifier

    same_keys = had is not None and wanted.source_of_keys == had.source_of_keys
    return JwtVerifier(wanted, verifier.keys if verifier is not None and same_keys else None)
