"""The public keys with which an identity provider signs its tokens."""

import abc
import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from towline_broker.domain.errors import CannotVerify
from towline_broker.domain.events import event
from towline_broker.server.configuration.auth_settings import JwtSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.files_in_use import FilesInUse
from towline_broker.server.open_files import read_bytes

log = logging.getLogger("towline.broker")

#: What PyJWT verifies with.
Key: TypeAlias = Any
#: Keys of other kinds sign nothing, and those with a private or a shared part are nobody else's.
KINDS = (
    rsa.RSAPublicKey,
    ec.EllipticCurvePublicKey,
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
)

#: Seconds between two looks at the issuer's keys, after one that failed, and before one that is
#: asked for by a token whose key is not known: who makes such tokens up cannot have us ask often.
REFRESH = 300.0
TRY_AGAIN = 10.0
ASKED_FOR = 10.0
FETCH_TIMEOUT = 5.0
#: Of a set of keys: an issuer has a handful of them.
MOST_BYTES = 1 << 20


class Keys(Protocol):
    async def start(self) -> None:
        """Called once, before the first token comes."""

    async def look(self) -> bool:
        """Reads or fetches them again if it is time to. Whether they have changed."""

    async def find(self, kid: str | None) -> Key | None:
        """None: there is no such key. Raises CannotVerify if they never could be fetched."""


def keys_of(settings: JwtSettings) -> Keys:
    """Raises ConfigError."""
    if settings.key is not None:
        return KeyFile(settings.key)
    if settings.jwks is not None:
        return KeySetFile(settings.jwks)
    return KeySetUrl(settings.jwks_url or "")


class _File(abc.ABC):
    """Read again when it has changed; what cannot be read leaves the keys as they were."""

    #: The setting that names it, and what it holds.
    setting: ClassVar[str]
    expected: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = FilesInUse([path], self._read, (OSError, ValueError), self._tell)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.setting}: {self._wrong(error)}") from None

    async def start(self) -> None:
        """Called before the first token comes: it may have changed since this was made."""
        await self.look()

    async def look(self) -> bool:
        if not self._file.look():
            return False
        log.info(
            "%s: %s is read again",
            self.setting,
            self._path,
            extra=event("keys_reread", setting=self.setting, file=str(self._path)),
        )
        return True

    async def find(self, kid: str | None) -> Key | None:
        return choose(self._file.content, kid)

    def _read(self) -> Mapping[str | None, Key]:
        """Raises OSError, ValueError."""
        return self._keys_in(read_bytes(self._path))

    @abc.abstractmethod
    def _keys_in(self, content: bytes) -> Mapping[str | None, Key]:
        """Raises ValueError."""

    def _tell(self, error: Exception) -> None:
        log.error(
            "%s: the keys stay as they were: %s",
            self.setting,
            self._wrong(error),
            extra=event("keys_refused", setting=self.setting, reason=self._wrong(error)),
        )

    def _wrong(self, error: Exception) -> str:
        if isinstance(error, OSError):
            return f"{self._path} cannot be read: {error.strerror}"
        return f"{self._path} holds no {self.expected}"


class KeyFile(_File):
    """Of one key, which is good for any token, whatever key that names."""

    setting, expected = "auth.jwt.key", "public key for signatures in PEM form ('BEGIN PUBLIC KEY')"

    def _keys_in(self, content: bytes) -> Mapping[str | None, Key]:
        try:
            key = load_pem_public_key(content)
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, KINDS):
            raise ValueError("a key of another kind")
        return {None: key}

    async def find(self, kid: str | None) -> Key | None:
        return await super().find(None)


class KeySetFile(_File):
    setting, expected = "auth.jwt.jwks", "JSON Web Key Set with public keys for signatures"

    def _keys_in(self, content: bytes) -> Mapping[str | None, Key]:
        return by_id(content)


class KeySetUrl:
    """While it cannot be fetched, those keys that were fetched before stay in use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str | None, Key] = {}
        self._fetching: asyncio.Task[bool] | None = None
        self._next = 0.0
        self._last = float("-inf")
        self._failed = False

    async def start(self) -> None:
        await self._fetch()

    async def look(self) -> bool:
        if asyncio.get_running_loop().time() < self._next:
            return False
        return await self._fetch()

    async def find(self, kid: str | None) -> Key | None:
        key = choose(self._keys, kid)
        if key is None and asyncio.get_running_loop().time() - self._last >= ASKED_FOR:
            await self._fetch()
            key = choose(self._keys, kid)
        if not self._keys:
            raise CannotVerify(
                "the keys that vouch for tokens cannot be fetched for now, so this one cannot be "
                "checked; try again"
            )
        return key

    async def _fetch(self) -> bool:
        """One at a time, whoever asks, and however many of those give up."""
        if self._fetching is None or self._fetching.done():
            self._last = asyncio.get_running_loop().time()
            self._fetching = asyncio.create_task(self._fetch_now())
        return await asyncio.shield(self._fetching)

    async def _fetch_now(self) -> bool:
        now = asyncio.get_running_loop().time
        try:
            # Times out as a whole: an issuer that dribbles holds up neither a start nor a call.
            async with asyncio.timeout(FETCH_TIMEOUT):
                keys = by_id(await _get(self._url))
        except (OSError, ValueError) as error:
            self._next = now() + TRY_AGAIN
            if not self._failed:
                kind = type(error).__name__
                log.warning(
                    "auth.jwt.jwks_url: the keys cannot be fetched: %s: %s",
                    kind,
                    error,
                    extra=event(
                        "keys_not_fetched", setting="auth.jwt.jwks_url", reason=f"{kind}: {error}"
                    ),
                )
            self._failed = True
            return False
        if self._failed:
            log.info(
                "auth.jwt.jwks_url: the keys are fetched again",
                extra=event("keys_fetched_again", setting="auth.jwt.jwks_url"),
            )
        changed = self._keys.keys() != keys.keys()
        self._keys, self._failed, self._next = keys, False, now() + REFRESH
        return changed


async def _get(url: str) -> bytes:
    """Raises ValueError for what is no such answer, and OSError."""
    # Takes a while to load, and most brokers have no use for it.
    import aiohttp

    try:
        async with (
            # By a proxy of the environment; not without TLS: it would decide which keys are good.
            aiohttp.ClientSession(trust_env=urlsplit(url).scheme == "https") as session,
            # Redirected elsewhere, the keys would be those of whoever is there.
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise ValueError(f"the answer has status {response.status}")
            found = bytearray()
            async for part in response.content.iter_any():
                found += part
                if len(found) > MOST_BYTES:
                    raise ValueError(f"the answer is longer than {MOST_BYTES} bytes")
            return bytes(found)
    # Both of these name the url, or that of a proxy, with the password in it.
    except aiohttp.InvalidURL:
        raise ValueError("it is no url that can be fetched") from None
    except aiohttp.ClientResponseError as error:
        raise OSError(f"status {error.status}: {error.message}") from None
    except aiohttp.ClientError as error:
        raise OSError(str(error)) from error


def by_id(content: bytes) -> dict[str | None, Key]:
    """The public keys for signatures in a JSON Web Key Set. Raises ValueError if there are none."""
    try:
        keys = {
            key.key_id: key
            for key in jwt.PyJWKSet.from_json(content.decode()).keys
            if key.public_key_use in ("sig", None) and isinstance(key.key, KINDS)
        }
    except (
        jwt.PyJWTError,
        AttributeError,
        NotImplementedError,
        RecursionError,
        TypeError,
    ) as error:
        # The library expects what a set should be, and meets what somebody has published.
        raise ValueError(f"no JSON Web Key Set: {error}") from error
    if not keys:
        raise ValueError("no public key for signatures")
    return keys


def choose(keys: Mapping[str | None, Key], kid: str | None) -> Key | None:
    """A token that names no key is good for the only one."""
    if kid is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(kid)
