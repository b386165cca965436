"""Tokens that are made and revoked while a broker serves, and calls with them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.access.callers import bearer
from tests.support.calls import Calls
from towline_broker.server.configuration.auth_settings import RightsSettings
from towline_broker.server.identity.tokens_file import Entry, digest_of, edited, new_token


class Tokens:
    """The file of tokens."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, name: str, *, lasts: float | None = None, **rights: list[str]) -> str:
        """``lasts``: seconds."""
        token, now = new_token(), datetime.now(UTC)
        with edited(self.path) as entries:
            entries.append(
                Entry(
                    name=name,
                    sha256=digest_of(token).hex(),
                    rights=RightsSettings.model_validate(rights),
                    created_at=now,
                    expires_at=None if lasts is None else now + timedelta(seconds=lasts),
                )
            )
        return token

    def revoke(self, name: str) -> None:
        with edited(self.path) as entries:
            entries[:] = [entry for entry in entries if entry.name != name]

    def give(self, name: str, **rights: list[str]) -> None:
        """Other rights."""
        given = {"rights": RightsSettings.model_validate(rights)}
        with edited(self.path) as entries:
            entries[:] = [
                entry.model_copy(update=given) if entry.name == name else entry for entry in entries
            ]


class Sender:
    """Makes calls with a token."""

    def __init__(self, calls: Calls, token: str) -> None:
        self._calls = calls
        self._metadata = bearer(token)

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        for service in (self._calls.queue, self._calls.dead, self._calls.admin):
            stub = getattr(service, rpc, None)
            if stub is not None:
                return lambda request, **how: stub(request, metadata=self._metadata, **how)
        raise AttributeError(rpc)
