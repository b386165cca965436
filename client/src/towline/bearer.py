"""The token by which a client proves who it is, sent along with each call.

It is never shown: not by ``repr``, not in an error, not in a log.
"""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towline.errors import ConfigurationError
from towline.variables import flag

logger = logging.getLogger("towline")

TOKEN_VARIABLE = "TOWLINE_TOKEN"  # noqa: S105 - the name of a variable
FILE_VARIABLE = "TOWLINE_TOKEN_FILE"
INSECURE_VARIABLE = "TOWLINE_INSECURE_TOKEN"

HEADER = "authorization"

LOOK_EVERY = 1.0
"""Seconds between two looks at the file of a token."""

_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class BearerToken:
    """Give ``value`` or ``file``.

    value      the token itself
    file       that holds it; read again when it changes, so that tokens can be replaced while a
               program runs
    insecure   send it to other machines also without TLS, where whoever is on the way can read it

    Raises ConfigurationError for both or neither, and for what cannot be a token.
    """

    value: str | None = field(default=None, repr=False)
    file: str | os.PathLike[str] | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.value is None) == (self.file is None):
            raise ConfigurationError("token: give one of value and file")
        if self.value is not None:
            _check(self.value, "token")

    @classmethod
    def of(cls, given: BearerToken | str | None) -> BearerToken | None:
        """Return the token that is meant; None: the one of the environment, if there is one.

        Raises ConfigurationError.
        """
        if given is None:
            return cls.from_environment()
        if isinstance(given, BearerToken):
            return given
        if not isinstance(given, str):
            raise ConfigurationError(
                f"token: expected a string or a BearerToken, got a {type(given).__name__}"
            )
        return cls(given)

    @classmethod
    def from_environment(cls) -> BearerToken | None:
        """Return the token that TOWLINE_TOKEN is, or that is in the file TOWLINE_TOKEN_FILE.

        TOWLINE_INSECURE_TOKEN=1 is ``insecure``. Raises ConfigurationError.
        """
        value = os.environ.get(TOKEN_VARIABLE, "").strip()
        file = os.environ.get(FILE_VARIABLE)
        if value and file:
            raise ConfigurationError(f"set one of {TOKEN_VARIABLE} and {FILE_VARIABLE}, not both")
        if not (value or file):
            return None
        if value:
            _check(value, TOKEN_VARIABLE)
        return cls(value or None, file or None, flag(INSECURE_VARIABLE))

    def read(self) -> str:
        """Return the token as it is now. Raises ConfigurationError for a file that holds none."""
        if self.file is None:
            return self.value or ""
        path = os.fspath(self.file)
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"token: cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"token: {path} is no text") from None
        return _check(text, f"token: {path}")

    def hand_over(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        file = None if self.file is None else os.path.abspath(self.file)  # noqa: PTH100 - no pathlib.Path
        return {"value": self.value, "file": file, "insecure": self.insecure}


class CurrentToken:
    """The header of a token for call after call, from any thread."""

    def __init__(self, token: BearerToken) -> None:
        """Raises ConfigurationError."""
        self._token = token
        self._signature = self._sign()
        self._looked = time.monotonic()
        self._header = (HEADER, f"Bearer {token.read()}")

    def header(self) -> tuple[str, str]:
        if self._token.file is not None and time.monotonic() - self._looked >= LOOK_EVERY:
            self._look()
        return self._header

    def _look(self) -> None:
        self._looked = time.monotonic()
        signature = self._sign()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._header = (HEADER, f"Bearer {self._token.read()}")
        except ConfigurationError as error:
            logger.warning("%s; the token that was read before stays in use", error)

    def _sign(self) -> tuple[int, ...] | None:
        """Another one when the file has changed, or is another one behind the same name."""
        if self._token.file is None:
            return None
        try:
            found = os.stat(self._token.file)  # noqa: PTH116 - for each call: it is to be quick
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _check(value: object, source: str) -> str:
    """Raises ConfigurationError, without the value."""
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return value
    raise ConfigurationError(
        f"{source}: expected a token: visible ASCII characters, and no blank between them"
    )
