"""Who calls: the credentials of each call become an identity, or the call is refused.

Credentials are a bearer token in the metadata ``authorization``, or else the certificate that the
client has shown. A call with a token that is no good is refused, whatever its certificate.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from towline_broker.domain.errors import CannotVerify, PermissionDenied, Unauthenticated
from towline_broker.domain.identity import Identity, act_as
from towline_broker.interceptors.refusals import Refusals
from towline_broker.interceptors.wrapping import Behaviour, WrappingInterceptor
from towline_broker.streaming import PUSH_STREAM, WORK

Context = grpc.aio.ServicerContext[Any, Any]

#: Calls that may be parked, or stay open: they end when their credentials are revoked.
PARKING = (
    "/towline.v1.QueueService/Reserve",
    "/towline.v1.QueueService/GetJob",
    PUSH_STREAM,
    WORK,
)

NO_CREDENTIALS = (
    "this broker asks who calls: send a token as 'authorization: Bearer ...' (the SDK and the "
    "commands take it from TOWLINE_TOKEN)"
)


@dataclass(frozen=True, slots=True)
class Credential:
    """What is known of one that was found good."""

    identity: Identity
    #: Unix time in seconds, from which on it is no longer good. None: none is set.
    ends_at: float | None = None
    #: Of a token: what it is known by. Empty for what can only end by its time.
    digest: bytes = b""
    #: Of a token of an identity provider: what has verified it, by the settings of that time.
    verifier: object = None


class Authenticator(Protocol):
    async def by_token(self, token: str) -> Credential:
        """Raises Unauthenticated, CannotVerify."""

    def by_certificate(self, names: Iterable[bytes]) -> Credential | None:
        """``names``: those that the client's certificate gives it. None: rights are set for none of
        them."""

    def by_now(self, credential: Credential) -> Credential | None:
        """What became of one that was found good: its rights may have changed. None: it has ended,
        or was revoked."""


class Authentication(WrappingInterceptor):
    """Raises Unauthenticated, CannotVerify. Counts and logs what is refused here or further in."""

    def __init__(self, authenticator: Authenticator, refusals: Refusals) -> None:
        self._authenticator = authenticator
        self._refusals = refusals
        self._parked: dict[asyncio.Timeout, Credential] = {}

    def wrap(self, method: str, behaviour: Behaviour) -> Behaviour:
        parks = method in PARKING

        async def identified(request: Any, context: Context) -> Any:
            who = ""
            try:
                credential = await self.find_out(context)
                who = credential.identity.name
                act_as(credential.identity, credential.ends_at)
                if parks:
                    return await self._unless_revoked(credential, behaviour, request, context)
                return await behaviour(request, context)
            except (Unauthenticated, PermissionDenied) as error:
                self._refusals.note(method, who, error, context.peer())
                raise

        return identified

    def end_changed(self) -> None:
        """Ends parked calls whose credentials are no longer what they were."""
        for call, credential in list(self._parked.items()):
            ends = call.expired()  # and gives back what it was granted
            changed = self._authenticator.by_now(credential) != credential
            # One whose time is over was not revoked: its wait is no longer than that. It may be
            # over since a moment ago, so this is asked last.
            over = credential.ends_at is not None and credential.ends_at <= time.time()
            if changed and not ends and not over:
                call.reschedule(asyncio.get_running_loop().time())

    async def find_out(self, context: Context) -> Credential:
        """Raises Unauthenticated, CannotVerify."""
        token = _bearer_token(context)
        if token:
            return await self._authenticator.by_token(token)
        names = context.peer_identities()
        if not names:
            raise Unauthenticated(NO_CREDENTIALS)
        credential = self._authenticator.by_certificate(names)
        if credential is None:
            raise Unauthenticated(
                "no rights are set for the subject of the client's certificate, and there is no "
                "token: an operator names it in auth.subjects"
            )
        return credential

    async def _unless_revoked(
        self, credential: Credential, behaviour: Behaviour, request: Any, context: Context
    ) -> Any:
        """Leases that are granted meanwhile go back, as if the caller had gone."""
        call = asyncio.timeout(None)
        try:
            async with call:
                self._parked[call] = credential
                try:
                    return await behaviour(request, context)
                finally:
                    del self._parked[call]
        except TimeoutError:
            if not call.expired():
                raise
        if self._authenticator.by_now(credential) is None:
            raise Unauthenticated("the credentials were revoked while the call waited: get others")
        raise CannotVerify("the rights of the caller changed while the call waited: try again")


def _bearer_token(context: Context) -> str:
    """Empty if the call has none. Raises Unauthenticated for what is no bearer token."""
    found = ""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization":
            if found:
                raise Unauthenticated("the call has more than one 'authorization': send one")
            scheme, _, found = str(value).partition(" ")
            found = found.strip()
            if scheme.lower() != "bearer" or not found:
                raise Unauthenticated("'authorization' is no bearer token: send 'Bearer ...'")
    return found
