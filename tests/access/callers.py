"""Who calls in the matrix: every kind of credentials with every combination of rights, and all that
is no good."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import grpc

from tests.access.issuer import AUDIENCE, NAME, Issuer
from tests.core.manual_clock import ManualClock
from tests.support.calls import Calls
from tests.support.certificates import Authority, Certificate
from towline_broker.server.configuration.auth_settings import RightsSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.identity.tokens_file import Entry, digest_of, edited, new_token
from towline_broker.server.serving import BrokerServer, running_broker

MINE, OTHER = "mail.out", "bills"
PATTERNS = ("mail.*", "bills", "*")
RIGHTS = ("push", "work", "admin")

Rights = Mapping[str, Sequence[str]]


def combinations() -> dict[str, dict[str, list[str]]]:
    """By name: nothing, each right alone and all together, for each of the patterns."""
    found: dict[str, dict[str, list[str]]] = {"nothing": {}}
    for right, pattern in product((*RIGHTS, "all"), PATTERNS):
        given = RIGHTS if right == "all" else (right,)
        found[f"{right} {pattern}"] = {each: [pattern] for each in given}
    return found


@dataclass(frozen=True)
class Caller:
    name: str
    calls: Calls
    metadata: tuple[tuple[str, str], ...]
    #: None: nobody is to know who this is.
    rights: Rights | None = None
    #: As the broker calls it.
    identity: str = ""

    def may(self, queue: str, *rights: str) -> bool:
        """By the rules of file names, which are not the broker's code."""
        patterns = [pattern for right in rights for pattern in (self.rights or {}).get(right, ())]
        return any(fnmatchcase(queue, pattern) for pattern in patterns)

    def may_everywhere(self, *rights: str) -> bool:
        return any("*" in (self.rights or {}).get(right, ()) for right in rights)

    def may_somewhere(self, *rights: str) -> bool:
        return any((self.rights or {}).get(right) for right in rights)


class World:
    """A broker over memory that knows every kind of credentials, and those who call it."""

    def __init__(self, server: BrokerServer, callers: Sequence[Caller]) -> None:
        self.server = server
        self.callers = callers
        self.broker = server.broker
        #: How it was just before the latest call.
        self.before: object = None

    async def standing(self) -> object:
        """What a call that is refused has to leave as it is."""
        queues = await self.broker.operating.queues()
        workers = await self.broker.operating.workers()
        return (
            [(q.name, q.paused, q.figures.depth, q.figures.totals) for q in queues],
            [(worker.key.id, worker.directive) for worker in workers],
        )


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    authority, issuer = Authority(), Issuer()
    tokens = {name: new_token() for name in (*combinations(), "expired", "revoked")}
    path = write_tokens(folder / "tokens.json", tokens)
    cert, key = authority.issue().write(folder)
    subjects = {f"{name} cert": rights for name, rights in combinations().items()}
    settings = Settings(
        store="memory:",
        listen="127.0.0.1:0",
        tls={"cert": cert, "key": key, "client_ca": authority.write(folder)},
        auth={
            "tokens": path,
            "jwt": {
                "issuer": NAME,
                "audience": AUDIENCE,
                "jwks": issuer.write_key_set(folder / "keys.json"),
            },
            "subjects": subjects,
        },
    )
    # Its time stands still: no retry falls due and no lease runs out between two looks at it.
    async with running_broker(settings, clock=ManualClock()) as server:
        address = str(server.address)
        stranger = authority.issue("nobody", also=())
        async with _calls(address, authority, stranger) as calls:
            callers = [*_tokens(calls, tokens), *_jwts(calls, issuer), *_bad(calls, tokens, issuer)]
            certified = []
            for name in subjects:
                shown = authority.issue(name, also=())
                certified.append(_calls(address, authority, shown))
            opened = [await each.__aenter__() for each in certified]
            callers += _certificates(opened, tokens)
            try:
                yield World(server, callers)
            finally:
                for each in certified:
                    await each.__aexit__(None, None, None)


def write_tokens(path: Path, tokens: Mapping[str, str]) -> Path:
    """All but the one that is called "revoked"."""
    now = datetime.now(UTC)
    with edited(path) as entries:
        for name, token in tokens.items():
            rights = combinations().get(name, {right: ["*"] for right in RIGHTS})
            entries.append(
                Entry(
                    name=_plain(name),
                    sha256=digest_of(token).hex(),
                    rights=RightsSettings.model_validate(rights),
                    created_at=now - timedelta(days=2),
                    expires_at=now - timedelta(seconds=1) if name == "expired" else None,
                )
            )
        entries[:] = [entry for entry in entries if entry.name != "revoked"]
    return path


@asynccontextmanager
async def _calls(address: str, authority: Authority, shown: Certificate) -> AsyncIterator[Calls]:
    credentials = grpc.ssl_channel_credentials(authority.pem, shown.key, shown.cert)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        yield Calls(channel, address)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _plain(name: str) -> str:
    return name.replace(" ", "-").replace("*", "all")


def _tokens(calls: Calls, tokens: Mapping[str, str]) -> list[Caller]:
    return [
        Caller(f"token: {name}", calls, bearer(tokens[name]), rights, f"token:{_plain(name)}")
        for name, rights in combinations().items()
    ]


def _jwts(calls: Calls, issuer: Issuer) -> list[Caller]:
    end = int(time.time()) + 3_600  # the last cell may be far off on a busy machine
    return [
        Caller(
            f"JWT: {name}",
            calls,
            bearer(issuer.sign(name, towline=rights, exp=end)),
            rights,
            f"jwt:{name}",
        )
        for name, rights in combinations().items()
    ]


def _certificates(opened: Sequence[Calls], tokens: Mapping[str, str]) -> list[Caller]:
    named = dict(zip(combinations(), opened, strict=True))
    certified = [
        Caller(f"certificate: {name}", named[name], (), rights, f"cert:{name} cert")
        for name, rights in combinations().items()
    ]
    # A token counts, whatever the certificate says.
    revoked = bearer(tokens["revoked"])
    return [*certified, Caller("revoked token, good certificate", named["all *"], revoked)]


def _bad(calls: Calls, tokens: Mapping[str, str], issuer: Issuer) -> list[Caller]:
    full: dict[str, Any] = {"towline": {right: ["*"] for right in RIGHTS}}
    past = int(time.time()) - 3_600
    bad = {
        "no credentials": (),
        "unknown token": bearer(new_token()),
        "expired token": bearer(tokens["expired"]),
        "revoked token": bearer(tokens["revoked"]),
        "token of another scheme": (("authorization", f"Basic {tokens['all *']}"),),
        "two tokens": bearer(tokens["all *"]) * 2,
        "token cut short": bearer(tokens["all *"][:-1]),
        "JWT of a stranger": bearer(Issuer().sign(**full)),
        "JWT of another issuer": bearer(issuer.sign(iss="https://evil.test/", **full)),
        "JWT for another audience": bearer(issuer.sign(aud="other", **full)),
        "JWT without audience": bearer(issuer.sign(aud=None, **full)),
        "JWT without an end": bearer(issuer.sign(exp=None, **full)),
        "JWT that has expired": bearer(issuer.sign(exp=past, **full)),
        "JWT that is not good yet": bearer(issuer.sign(nbf=int(time.time()) + 3_600, **full)),
        "JWT without subject": bearer(issuer.sign(sub=None, **full)),
        "JWT with wrong rights": bearer(issuer.sign(towline={"push": "*"})),
        "JWT unsigned": bearer(issuer.leave_unsigned("x", **full)),
        "JWT signed with the public key": bearer(issuer.sign_with_public_key("x", **full)),
    }
    return [Caller(name, calls, metadata) for name, metadata in bad.items()]
