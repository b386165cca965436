"""The file of bearer tokens: who has one, what it is good for, until when.

The file holds of each token its SHA-256, and never the token. ``towline-broker token`` writes it;
brokers read it whenever it has changed.
"""

import base64
import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError

from towline_broker.domain.events import event
from towline_broker.domain.identity import Identity
from towline_broker.interceptors.authentication import Credential
from towline_broker.server.configuration.auth_settings import RightsSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.files_in_use import FilesInUse
from towline_broker.server.open_files import read_bytes

log = logging.getLogger("towline.broker")

#: In front of every token, so that people and scanners of leaked secrets know one when they see it.
PREFIX = "twl_"
RANDOM_BYTES = 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class UnreadableTokens(Exception):
    """The file is not there, or holds something else than tokens. The message names it."""


def check_name(text: str) -> str:
    """Raises ValueError."""
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text[:64]!r} is no name of a token: expected 1 to 64 of A-Z a-z 0-9 . _ @ -, "
            "beginning with a letter or digit"
        )
    return text


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("expected the SHA-256 of a token in 64 hexadecimal digits")
    return text


class Entry(BaseModel):
    """Of one token. Several may have one name: the old and the new one, while it is rotated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(check_name)]
    sha256: Annotated[str, AfterValidator(_digest)]
    rights: RightsSettings
    created_at: AwareDatetime
    #: From then on it is no longer good. None: it is, until it is revoked.
    expires_at: AwareDatetime | None = None

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def to_credential(self) -> Credential:
        ends_at = None if self.expires_at is None else self.expires_at.timestamp()
        identity = Identity(f"token:{self.name}", self.rights.to_rights())
        return Credential(identity, ends_at, bytes.fromhex(self.sha256))


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    tokens: list[Entry]


def new_token() -> str:
    """256 random bits behind the prefix."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(RANDOM_BYTES)).rstrip(b"=")
    return PREFIX + random.decode("ascii")


def digest_of(token: str) -> bytes:
    # No slow hash: it makes up for secrets that can be guessed, and 256 random bits cannot.
    return sha256(token.encode()).digest()


def read_entries(path: Path) -> list[Entry]:
    """Raises UnreadableTokens."""
    try:
        return _Content.model_validate_json(read_bytes(path)).tokens
    except FileNotFoundError:
        hint = f"make it: towline-broker token create --name NAME ... --tokens {path}"
        raise UnreadableTokens(f"{path} does not exist; {hint}") from None
    except OSError as error:
        raise UnreadableTokens(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise UnreadableTokens(f"{path} is no file of tokens: {where}{first['msg']}") from None


@contextmanager
def edited(path: Path) -> Iterator[list[Entry]]:
    """The entries, to be changed in place; written as a whole when the block ends well. Others who
    edit the file meanwhile wait. A file that is not there yet is made.

    Raises UnreadableTokens, OSError.
    """
    path = path.resolve()  # a link stays a link
    lock = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = read_entries(path) if path.exists() else []
        yield entries
        _write(path, entries)
        os.fsync(lock)
    finally:
        os.close(lock)


def _write(path: Path, entries: Sequence[Entry]) -> None:
    content = _Content(version=1, tokens=list(entries)).model_dump(mode="json", exclude_none=True)
    # Readable by its owner only, as mkstemp makes it; but who serves may be another than who edits.
    file, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(file, "w", encoding="utf-8") as text:
            if path.exists():
                _lend(file, path.stat())
            json.dump(content, text, indent=2)
            text.write("\n")
            text.flush()
            os.fsync(file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _lend(file: int, before: os.stat_result) -> None:
    """To whom the file before it was of, and to those who could read it: a broker that cannot read
    the new one goes on with the old one, revoked tokens and all."""
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(file, before.st_uid, before.st_gid)
    readers = before.st_mode & (stat.S_IRGRP | stat.S_IROTH)
    os.fchmod(file, stat.S_IRUSR | stat.S_IWUSR | readers)


class TokensFile:
    """The tokens as they are in the file now. A file that cannot be read leaves those that were
    read before in force, and is told of once. Raises ConfigError if there are none to begin with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = FilesInUse([path], self._read, (UnreadableTokens,), self._tell)
        except UnreadableTokens as error:
            raise ConfigError(f"auth.tokens: {error}") from None
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            log.warning(
                "auth.tokens: others than its owner can write %s, and so give themselves any "
                "right: chmod 600 %s",
                *(path, path),
                extra=event("tokens_writable", file=str(path)),
            )
        #: Grows when the file was read again.
        self.generation = 0

    def find(self, digest: bytes) -> Credential | None:
        """The token with this SHA-256, expired or not."""
        self.look()
        known = self._file.content.get(digest[:8])
        if known is None or not hmac.compare_digest(known.digest, digest):
            return None
        return known

    def look(self) -> None:
        """Reads the file again if it has changed."""
        if self._file.look():
            self.generation += 1
            count = len(self._file.content)
            log.info(
                "%d tokens are read from %s",
                *(count, self._path),
                extra=event("tokens_reread", file=str(self._path), count=count),
            )

    def _read(self) -> dict[bytes, Credential]:
        found = [entry.to_credential() for entry in read_entries(self._path)]
        return {each.digest[:8]: each for each in found}

    def _tell(self, error: Exception) -> None:
        log.error(
            "the tokens stay as they were: %s",
            error,
            extra=event("tokens_refused", file=str(self._path), reason=str(error)),
        )


def expired_since(credential: Credential) -> str | None:
    """When it ended, as text; None: it has not."""
    ends = credential.ends_at
    if ends is None or time.time() < ends:
        return None
    return datetime.fromtimestamp(ends, UTC).isoformat(timespec="seconds")
