"""An identity provider for tests: its keys, and the tokens that it signs."""

import base64
import hmac
import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAME, AUDIENCE = "https://login.test/", "towline"


class Issuer:
    def __init__(self, kid: str = "key-1") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._kid = kid

    @property
    def pem(self) -> bytes:
        public = self._key.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def jwk(self) -> dict[str, Any]:
        text = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key())
        return {**json.loads(text), "kid": self._kid, "use": "sig", "alg": "ES256"}

    @property
    def key_set(self) -> str:
        return json.dumps({"keys": [self.jwk]})

    def write_key_set(self, path: Path) -> Path:
        partial = path.with_suffix(".partial")
        partial.write_text(self.key_set)
        partial.replace(path)
        return path

    def sign(self, subject: str = "worker", **claims: Any) -> str:
        """A token that is good for a minute; a claim that is None is left out."""
        return jwt.encode(
            standing(subject, **claims), self._key, "ES256", headers={"kid": self._kid}
        )

    def sign_with_public_key(self, subject: str, **claims: Any) -> str:
        """What a broker would take that does not care which algorithm a key is for."""
        head, body = _part({"alg": "HS256", "kid": self._kid}), _part(standing(subject, **claims))
        mac = hmac.digest(self.pem, f"{head}.{body}".encode(), sha256)
        return f"{head}.{body}.{_base64(mac)}"

    def leave_unsigned(self, subject: str, **claims: Any) -> str:
        head = {"alg": "none", "kid": self._kid}
        return f"{_part(head)}.{_part(standing(subject, **claims))}."


def standing(subject: str, **claims: Any) -> dict[str, Any]:
    now = int(time.time())
    all_claims = {"iss": NAME, "aud": AUDIENCE, "sub": subject, "exp": now + 60, **claims}
    return {name: value for name, value in all_claims.items() if value is not None}


def _part(content: dict[str, Any]) -> str:
    return _base64(json.dumps(content).encode())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
