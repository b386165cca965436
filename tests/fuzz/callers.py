"""Who makes the calls: one who may do everything, some who may do a little, and many who make their
credentials up."""

import time
from pathlib import Path
from random import Random
from typing import TypeAlias

from tests.access.issuer import AUDIENCE, NAME, Issuer
from tests.access.senders import Tokens
from tests.fuzz.mutation import ByteMutator
from towline_broker.server.configuration.auth_settings import AuthSettings, JwtSettings
from towline_broker.server.configuration.guard_settings import GuardSettings
from towline_broker.server.identity.access import Access
from towline_broker.services.pushing import DEFAULT_QUEUE

Metadata: TypeAlias = tuple[tuple[str, str], ...]

#: Seconds for which the tokens of the identity provider are good: longer than anybody fuzzes.
LONG = 10_000_000
#: How often out of a hundred calls: everything, a little, and otherwise what was made up.
EVERYTHING, LITTLE = 84, 8


class Callers:
    """``folder``: for their files."""

    def __init__(self, folder: Path) -> None:
        tokens, issuer = Tokens(folder / "tokens.json"), Issuer()
        everything = tokens.make("everything", push=["*"], work=["*"], admin=["*"])
        little = tokens.make("little", push=["q"], work=["r*"])
        old = tokens.make("old", lasts=-1, push=["*"])
        signed = issuer.sign(
            "some", exp=int(time.time()) + LONG, towline={"push": ["*"], "admin": ["q"]}
        )
        keys = issuer.write_key_set(folder / "keys.json")
        self.access = Access(
            AuthSettings(
                tokens=tokens.path, jwt=JwtSettings(issuer=NAME, audience=AUDIENCE, jwks=keys)
            ),
            GuardSettings(),
            DEFAULT_QUEUE,
        )
        #: That no line of a log may hold.
        self.secrets = (everything, little, old, signed)
        self.good: Metadata = _bearer(everything)
        self._little = [_bearer(little), _bearer(signed)]
        self._made_up = [
            *(old, issuer.leave_unsigned("x"), issuer.sign_with_public_key("x")),
            *(issuer.sign("x", towline={"push": "*"}), issuer.sign("x", towline=[]), *self.secrets),
        ]

    def any_of_them(self, rng: Random) -> Metadata:
        roll = rng.randrange(100)
        if roll < EVERYTHING:
            return self.good
        if roll < EVERYTHING + LITTLE:
            return rng.choice(self._little)
        text = "Bearer " + rng.choice(self._made_up)
        if rng.random() < 0.8:
            mutated = ByteMutator(rng).mutate(text.encode())
            # What HTTP/2 lets through in a value.
            text = mutated[:8_000].decode("ascii", "replace").replace("\ufffd", "?")
            text = "".join(each if each.isprintable() else "?" for each in text)
        return (("authorization", text),) * rng.choice((0, 1, 1, 1, 1, 2))


def _bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)
