"""Lease tokens: how a grant of a job is named on the wire.

Opaque to clients. A token carries the queue, so that any broker finds the store and the place in
it from the token alone, and a random part, so that it cannot be guessed.
"""

import re
import secrets

from towline_broker.domain.jobs import LeaseRef

_TOKEN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._:-]{0,127})"
    r"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"/([A-Za-z0-9_-]{1,64})"
)


def new_grant() -> str:
    """72 random bits."""
    return secrets.token_urlsafe(9)


def encode(ref: LeaseRef) -> str:
    return f"{ref.queue}/{ref.job_id}/{ref.grant}"


def decode(token: str) -> LeaseRef | None:
    """None: not a token of ours."""
    match = _TOKEN.fullmatch(token)
    return LeaseRef(*match.groups()) if match else None
