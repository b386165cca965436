"""``sync://``: every job runs at once, where it is dispatched. For tests and scripts.

    client = Client("sync://")                      # or "sync://?delays=refuse&errors=raise"
    client.dispatch(SendEmail(to="a@b.c")).result()

There is no broker, no worker and no thread: ``dispatch`` returns when the job has ended. All else
is as it would be: the payload goes there and back as bytes, the handler and the outcome are the
business of the worker's own Attempt, and retries follow the job's policy.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from towline.errors import ConfigurationError
from towline.transport.sync.broker import SyncBroker

__all__ = ["SyncBroker", "at"]


def at(address: str) -> SyncBroker:
    """Return a broker for an address like ``sync://?delays=refuse``. Raises ConfigurationError."""
    parts = urlsplit(address)
    if parts.netloc or parts.path.strip("/") or parts.fragment:
        raise ConfigurationError(
            f"address: expected sync:// or sync://?delays=...&errors=..., got {address!r}"
        )
    options: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in ("delays", "errors"):
            raise ConfigurationError(
                f"address: sync:// has the options delays and errors, got {name!r}"
            )
        options[name] = value
    return SyncBroker(**options)
