"""The credentials that this broker knows: bearer tokens, tokens of an identity provider, subjects
of certificates."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from towline_broker.domain.errors import Unauthenticated
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


class Credentials:
    """Whatever ``settings`` give rights to. Raises ConfigError if a file is no good."""

    def __init__(self, settings: AuthSettings) -> None:
        self._tokens = None if settings.tokens is None else TokensFile(settings.tokens)
        self._jwt = _verifier(settings)
        self._subjects = {
            subject.encode(): Credential(Identity(f"cert:{subject}", rights.to_rights()))
            for subject, rights in settings.subjects.items()
        }

    async def start(self) -> None:
        """Fetches what has to be fetched. That it cannot be is told, and tried again."""
        if self._jwt is not None:
            await self._jwt.keys.start()

    async def watch(self, changed: Callable[[], None]) -> None:
        """Reads files again when they have changed, and says so; never returns."""
        generation = self._generation

        async def look() -> None:
            nonlocal generation
            await self._look()
            # A call may have had the file read.
            if self._generation != generation:
                generation = self._generation
                changed()

        await look_every(LOOK_EVERY, look, "looking at the files of auth")

    async def by_token(self, token: str) -> Credential:
        if token.startswith(PREFIX):
            return self._opaque(token)
        if self._jwt is not None:
            return await self._jwt.verify(token)
        raise Unauthenticated(NOT_KNOWN)

    def by_certificate(self, names: Iterable[bytes]) -> Credential | None:
        for name in names:
            known = self._subjects.get(name)
            if known is not None:
                return known
        return None

    def by_now(self, credential: Credential) -> Credential | None:
        found: Credential | None = credential
        if credential.digest:
            found = None if self._tokens is None else self._tokens.find(credential.digest)
        return None if found is None or expired_since(found) else found

    def _opaque(self, token: str) -> Credential:
        credential = None if self._tokens is None else self._tokens.find(digest_of(token))
        if credential is None:
            raise Unauthenticated(NOT_KNOWN)
        expired = expired_since(credential)
        if expired is not None:
            raise Unauthenticated(f"{credential.identity.name} has expired at {expired}")
        return credential

    @property
    def _generation(self) -> int:
        return 0 if self._tokens is None else self._tokens.generation

    async def _look(self) -> None:
        if self._tokens is not None:
            self._tokens.look()
        if self._jwt is not None and await self._jwt.keys.look():
            self._jwt.forget()


def _verifier(settings: AuthSettings) -> "JwtVerifier | None":
    """Raises ConfigError."""
    if settings.jwt is None:
        return None
    # The library takes a tenth of a second to import.
    from towline_broker.server.identity.jwt_verifier import JwtVerifier

    return JwtVerifier(settings.jwt)
