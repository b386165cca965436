"""Tokens of an identity provider: JWT, signed with its private key."""

import re
import time
from collections import OrderedDict
from typing import Any, NamedTuple

import jwt
from pydantic import ValidationError

from towline_broker.domain.errors import Unauthenticated
from towline_broker.domain.identity import Identity, Rights
from towline_broker.domain.time import to_seconds
from towline_broker.interceptors.authentication import Credential
from towline_broker.server.configuration.auth_settings import JwtSettings, RightsSettings
from towline_broker.server.identity.jwt_keys import Key, Keys, keys_of
from towline_broker.server.identity.tokens_file import digest_of

#: A token that was found good is not looked at again for so many seconds.
REMEMBER = 60.0
MOST_REMEMBERED = 10_000
#: Names and patterns of queues for one right in one token.
MOST_PATTERNS = 100
#: Unix time in seconds, beyond which nobody counts.
FAR = 1 << 52

_SUBJECT = re.compile(r"[!-~]([ -~]{0,254}[!-~])?", re.ASCII)


class _Remembered(NamedTuple):
    credential: Credential
    #: By the monotonic clock.
    until: float


class JwtVerifier:
    """Raises ConfigError if the issuer's keys cannot be read."""

    def __init__(self, settings: JwtSettings, keys: Keys | None = None) -> None:
        self._settings = settings
        self.keys = keys or keys_of(settings)
        self._leeway = to_seconds(settings.leeway)
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def forget(self) -> None:
        """The keys have changed: what was found good may be so no more."""
        self._remembered.clear()

    async def verify(self, token: str) -> Credential:
        """Raises Unauthenticated, CannotVerify."""
        digest = digest_of(token)
        remembered = self._remembered.get(digest)
        if remembered is not None and time.monotonic() < remembered.until:
            return remembered.credential
        credential = await self._verify(token)
        ends_at = credential.ends_at or 0.0
        if ends_at <= time.time():
            raise Unauthenticated("the token has expired: get a new one from its issuer")
        until = time.monotonic() + min(REMEMBER, ends_at - time.time())
        self._remembered[digest] = _Remembered(credential, until)
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return credential

    async def _verify(self, token: str) -> Credential:
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._settings.algorithms:
                raise Unauthenticated("the token is not signed by an algorithm that is taken here")
            key = await self.keys.find(header.get("kid"))
            if key is None:
                raise Unauthenticated("the token is signed with a key that is none of its issuer's")
            return self._identify(self._claims(token, key))
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            # Whoever makes a token up decides what the library meets in it.
            raise Unauthenticated(f"the token is not taken: {_reason(error)}") from None

    def _claims(self, token: str, key: Key) -> dict[str, Any]:
        required = ["exp", "iss", "aud", self._settings.subject_claim]
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(self._settings.algorithms),
            issuer=self._settings.issuer,
            audience=self._settings.audience,
            leeway=self._leeway,
            options={"require": required},
        )
        return claims

    def _identify(self, claims: dict[str, Any]) -> Credential:
        subject = claims[self._settings.subject_claim]
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            what = "is no text of 1 to 256 printable ASCII characters"
            raise Unauthenticated(f"the token's claim {self._settings.subject_claim!r} {what}")
        known = self._settings.subjects.get(subject)
        rights = known.to_rights() if known is not None else self._claimed(claims)
        ends_at = min(int(claims["exp"]), FAR) + self._leeway
        return Credential(Identity(f"jwt:{subject}", rights), ends_at, verifier=self)

    def _claimed(self, claims: dict[str, Any]) -> Rights:
        """Of a token without the claim: none."""
        name = self._settings.rights_claim
        claimed = claims.get(name, {})
        try:
            if not isinstance(claimed, dict) or any(
                len(claimed.get(right, ())) > MOST_PATTERNS for right in ("push", "work", "admin")
            ):
                raise TypeError
            return RightsSettings.model_validate(claimed).to_rights()
        except (ValidationError, TypeError):
            raise Unauthenticated(
                f"the token's claim {name!r} is not as expected: "
                '{"push": [...], "work": [...], "admin": [...]}, each with at most '
                f"{MOST_PATTERNS} names of queues or patterns"
            ) from None


def _reason(error: Exception) -> str:
    """Nothing of the token itself."""
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired; get a new one from its issuer"
        case jwt.ImmatureSignatureError():
            return "it is not good yet"
        case jwt.InvalidIssuerError():
            return "its issuer is another one"
        case jwt.InvalidAudienceError():
            return "it is made for another audience"
        case jwt.MissingRequiredClaimError():
            return f"its claim {error.claim!r} is missing"
        case jwt.InvalidSignatureError() | jwt.InvalidKeyError():
            return "its signature is wrong"
    return "it is none of this broker's tokens, or was revoked"
