"""JSON Web Tokens: what is taken, where keys come from, what becomes of them."""

import asyncio
import http.server
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from tests.access.issuer import AUDIENCE, NAME, Issuer
from tests.support.pages import blocks
from towline_broker.domain.errors import CannotVerify, Unauthenticated
from towline_broker.domain.identity import Right
from towline_broker.interceptors.authentication import Credential
from towline_broker.server.configuration.auth_settings import AuthSettings, JwtSettings
from towline_broker.server.exits import ConfigError
from towline_broker.server.identity import jwt_keys
from towline_broker.server.identity.authenticating import Credentials
from towline_broker.server.identity.jwt_verifier import JwtVerifier

RIGHTS = {"push": ["emails.*"], "work": ["emails.in"]}
#: What stands in the place of a key set where something goes wrong at an issuer.
NO_KEY_SETS = (
    *("[]", "null", '"x"', "\xff", "[" * 100_000),
    '{"keys": [{"kty": "EC", "alg": "none"}]}',
    '{"keys": [{"kty": "RSA", "n": 5, "e": "AQAB", "kid": ["a"]}]}',
)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def settings(**given: Any) -> JwtSettings:
    return JwtSettings(issuer=NAME, audience=AUDIENCE, **given)


@pytest.fixture
def keys(issuer: Issuer, tmp_path: Path) -> Path:
    return issuer.write_key_set(tmp_path / "keys.json")


async def test_a_token_gives_its_subject_the_rights_that_it_holds(
    issuer: Issuer, keys: Path
) -> None:
    verifier = JwtVerifier(settings(jwks=keys))
    found = await verifier.verify(issuer.sign("mailer", towline=RIGHTS))
    assert found.identity.name == "jwt:mailer"
    assert found.identity.may("emails.out", Right.PUSH)
    assert not found.identity.may("emails.out", Right.WORK)
    assert found.ends_at is not None
    assert 0 < found.ends_at - time.time() <= 60 + 30
    nothing = await verifier.verify(issuer.sign("mailer"))
    assert not nothing.identity.may_somewhere(*Right)


async def test_the_claims_that_the_page_shows_are_rights(issuer: Issuer, keys: Path) -> None:
    (shown,) = blocks("docs/security.md", "json")
    claims = json.loads(shown)
    shown_settings = JwtSettings(issuer=claims["iss"], audience=claims["aud"], jwks=keys)
    claims["exp"] = int(time.time()) + 60
    found = await JwtVerifier(shown_settings).verify(issuer.sign(claims.pop("sub"), **claims))
    assert found.identity.name == "jwt:mailer"
    assert found.identity.may("emails.out", Right.PUSH)


async def test_rights_are_set_for_subjects_that_cannot_bring_them(
    issuer: Issuer, keys: Path
) -> None:
    subject = "system:serviceaccount:shop:mailer"
    given = settings(jwks=keys, subjects={subject: {"push": ["emails"]}}, rights_claim="r")
    verifier = JwtVerifier(given)
    found = await verifier.verify(issuer.sign(subject, r={"admin": ["*"]}))
    assert found.identity.may("emails", Right.PUSH)
    assert not found.identity.may_somewhere(Right.ADMIN)
    other = await verifier.verify(issuer.sign("x", aud=["a", AUDIENCE], r={"admin": ["*"]}))
    assert other.identity.may_everywhere(Right.ADMIN)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": int(time.time()) - 3_600}, "it has expired"),
        ({"exp": None}, "its claim 'exp' is missing"),
        ({"aud": None}, "its claim 'aud' is missing"),
        ({"iss": None}, "its claim 'iss' is missing"),
        ({"iss": "https://evil.test/"}, "its issuer is another one"),
        ({"aud": "other"}, "it is made for another audience"),
        ({"nbf": int(time.time()) + 3_600}, "it is not good yet"),
        ({"sub": "a\nb"}, "claim 'sub' is no text of 1 to 256 printable"),
        ({"sub": ""}, "claim 'sub' is no text"),
        ({"towline": ["push"]}, "claim 'towline' is not as expected"),
        ({"towline": {"push": "*"}}, "claim 'towline' is not as expected"),
        ({"towline": {"push": ["a b"]}}, "claim 'towline' is not as expected"),
        ({"towline": {"push": ["q"] * 101}}, "claim 'towline' is not as expected"),
        ({"towline": {"root": ["*"]}}, "claim 'towline' is not as expected"),
    ],
)
async def test_what_is_wrong_with_a_token_is_said_without_it(
    issuer: Issuer, keys: Path, claims: dict[str, Any], said: str
) -> None:
    token = issuer.sign(**{"subject": claims.pop("sub", "x"), **claims})
    with pytest.raises(Unauthenticated) as refused:
        await JwtVerifier(settings(jwks=keys)).verify(token)
    assert said in str(refused.value)
    for part in token.split("."):
        assert part not in str(refused.value)


@pytest.mark.parametrize(
    "token",
    ["x", "..", "a.b.c", "e30.e30.", "Ww.Ww.Ww", "W1tbW1tb" * 800 + ".e30.x", "\x7f.e30.x"],
)
async def test_what_is_no_token_is_refused_as_any_other(keys: Path, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await JwtVerifier(settings(jwks=keys)).verify(token)


async def test_a_far_end_is_no_defect(issuer: Issuer, keys: Path) -> None:
    verifier = JwtVerifier(settings(jwks=keys))
    assert (await verifier.verify(issuer.sign(exp=10**30))).ends_at is not None


async def test_what_was_found_good_is_remembered_no_longer_than_it_lasts(
    issuer: Issuer, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = JwtVerifier(settings(jwks=keys, leeway=0))
    token = issuer.sign(exp=int(time.time()) + 2)
    found = await verifier.verify(token)
    checked = 0

    async def check(_: str) -> Credential:
        nonlocal checked
        checked += 1
        return found

    monkeypatch.setattr(verifier, "_verify", check)
    assert await verifier.verify(token) is found
    assert checked == 0
    assert found.ends_at is not None
    await asyncio.sleep(max(0.0, found.ends_at - time.time()) + 0.01)
    with pytest.raises(Unauthenticated, match="expired"):
        await verifier.verify(token)


async def test_what_is_remembered_does_not_pile_up(
    issuer: Issuer, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline_broker.server.identity.jwt_verifier.MOST_REMEMBERED", 3)
    verifier = JwtVerifier(settings(jwks=keys))
    for number in range(10):
        await verifier.verify(issuer.sign(f"worker-{number}"))
    assert len(verifier._remembered) == 3


def spoil(path: Path, content: str) -> None:
    path.write_text(content)


async def test_a_key_that_was_taken_back_vouches_for_nothing(
    issuer: Issuer, keys: Path, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(AuthSettings(jwt=settings(jwks=keys)))
    await credentials.start()
    token = issuer.sign()
    await credentials.by_token(token)
    for content in ("nothing", *NO_KEY_SETS):
        spoil(keys, content)
        await credentials._look_at_keys()
        await credentials.by_token(token)
    assert "auth.jwt.jwks: the keys stay as they were" in caplog.text
    other = Issuer("key-2")
    other.write_key_set(keys)
    await credentials._look_at_keys()
    await credentials.by_token(other.sign())
    with pytest.raises(Unauthenticated, match="none of its issuer's"):
        await credentials.by_token(token)


async def test_a_public_key_in_a_file_will_do(issuer: Issuer, tmp_path: Path) -> None:
    path = tmp_path / "issuer.pem"
    path.write_bytes(issuer.pem)
    verifier = JwtVerifier(settings(key=path))
    assert (await verifier.verify(issuer.sign())).identity.name == "jwt:worker"
    with pytest.raises(Unauthenticated, match="its signature is wrong"):
        await verifier.verify(Issuer().sign())
    wrong_kind = JwtVerifier(settings(key=path, algorithms=["ES256", "RS256"]))
    _, _, rest = issuer.sign().partition(".")
    with pytest.raises(Unauthenticated):
        await wrong_kind.verify(f"eyJhbGciOiJSUzI1NiJ9.{rest}")


def of_agreement() -> str:
    """A key with which nothing can be signed."""
    public = x25519.X25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def of_private_key() -> str:
    private = rsa.generate_private_key(65_537, 2_048)
    return json.dumps({"keys": [jwt.algorithms.RSAAlgorithm.to_jwk(private, as_dict=True)]})


@pytest.mark.parametrize(
    ("content", "which"),
    [
        (None, "key"),
        ("-----BEGIN", "key"),
        (of_agreement(), "key"),
        (None, "jwks"),
        ("{}", "jwks"),
        ('{"keys": []}', "jwks"),
        *((content, "jwks") for content in NO_KEY_SETS),
        (of_private_key(), "jwks"),
    ],
)
def test_a_file_without_keys_is_refused_at_the_start(
    tmp_path: Path, content: str | None, which: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"auth\.jwt\.{which}: {path} "):
        JwtVerifier(settings(**{which: path}))


class _Handler(http.server.BaseHTTPRequestHandler):
    keys: ClassVar[list[dict[str, Any]]] = []
    asked = 0
    #: What it does that an issuer should not.
    fault = ""

    def do_GET(self) -> None:
        type(self).asked += 1
        body = json.dumps({"keys": self.keys}).encode()
        if self.fault == "redirects" and self.path != "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            return
        if self.fault.startswith("publishes "):
            body = self.fault.removeprefix("publishes ").encode()
        if self.fault == "is endless":
            body += b" " * (jwt_keys.MOST_BYTES + 1)
        if self.fault == "dribbles":
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with suppress(OSError):  # it has hung up
                for each in body:
                    self.wfile.write(bytes([each]))
                    time.sleep(0.05)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        pass


@pytest.fixture
def published() -> Iterator[tuple[str, type[_Handler]]]:
    handler = type("Handler", (_Handler,), {"keys": [], "asked": 0})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys", handler
        server.shutdown()
        thread.join()


async def test_keys_are_fetched_anew_for_one_that_is_not_known_but_not_often(
    issuer: Issuer, published: tuple[str, type[_Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = published
    handler.keys = [issuer.jwk]
    verifier = JwtVerifier(settings(jwks_url=url))
    await verifier.keys.start()
    await verifier.verify(issuer.sign())
    new = Issuer("key-2")
    handler.keys = [issuer.jwk, new.jwk]
    with pytest.raises(Unauthenticated, match="none of its issuer's"):  # asked a moment ago
        await verifier.verify(new.sign())
    assert handler.asked == 1
    monkeypatch.setattr(jwt_keys, "ASKED_FOR", 0.0)
    found = await asyncio.gather(*(verifier.verify(new.sign()) for _ in range(5)))
    assert {each.identity.name for each in found} == {"jwt:worker"}
    assert handler.asked == 2


async def test_keys_of_this_machine_are_not_fetched_by_way_of_a_proxy(
    issuer: Issuer, published: tuple[str, type[_Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = published
    handler.keys = [issuer.jwk]
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setattr(jwt_keys, "FETCH_TIMEOUT", 2.0)
        verifier = JwtVerifier(settings(jwks_url=url))
        await verifier.keys.start()
        await verifier.verify(issuer.sign())


async def test_without_keys_a_token_is_neither_good_nor_bad(
    issuer: Issuer, published: tuple[str, type[_Handler]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url, handler = published
    verifier = JwtVerifier(settings(jwks_url=url))
    await verifier.keys.start()  # there is none in what comes
    with pytest.raises(CannotVerify):
        await verifier.verify(issuer.sign())
    handler.keys = [issuer.jwk]
    assert isinstance(verifier.keys, jwt_keys.KeySetUrl)
    assert not await verifier.keys.look()  # too early
    assert await verifier.keys._fetch()
    await verifier.verify(issuer.sign())
    handler.keys = []
    assert not await verifier.keys._fetch()
    await verifier.verify(issuer.sign("another"))
    said = [record.message for record in caplog.records if "jwks_url" in record.message]
    assert [text.partition(": ")[2].partition(":")[0] for text in said] == [
        "the keys cannot be fetched",
        "the keys are fetched again",
        "the keys cannot be fetched",
    ]


@pytest.mark.parametrize(
    "fault",
    ["redirects", "is endless", "dribbles", *(f"publishes {each}" for each in NO_KEY_SETS)],
    ids=lambda fault: fault[:20],
)
async def test_an_issuer_that_does_not_behave_holds_up_nothing_and_is_not_believed(
    issuer: Issuer,
    published: tuple[str, type[_Handler]],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    monkeypatch.setattr(jwt_keys, "FETCH_TIMEOUT", 0.5)
    url, handler = published
    handler.keys, handler.fault = [issuer.jwk], fault
    verifier = JwtVerifier(settings(jwks_url=url))
    await asyncio.wait_for(verifier.keys.start(), 5)
    with pytest.raises(CannotVerify):
        await verifier.verify(issuer.sign())
    handler.fault = ""
    assert isinstance(verifier.keys, jwt_keys.KeySetUrl)
    assert await verifier.keys._fetch()
    await verifier.verify(issuer.sign())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "set exactly one of key, jwks and jwks_url; found none"),
        ({"key": "a", "jwks": "b"}, "found key and jwks"),
        ({"jwks_url": "http://login.example.com/keys"}, "begins with https://"),
        ({"jwks_url": "file:///etc/passwd"}, "begins with https://"),
        ({"key": "a", "algorithms": ["none"]}, "algorithms"),
        ({"key": "a", "algorithms": ["HS256"]}, "algorithms"),
        ({"key": "a", "algorithms": []}, "algorithms"),
        ({"key": "a", "issuer": ""}, "issuer"),
        ({"key": "a", "audience": ""}, "audience"),
    ],
)
def test_what_cannot_be_safe_cannot_be_set(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        JwtSettings(**{"issuer": NAME, "audience": AUDIENCE, **given})
    for missing in ("issuer", "audience"):
        rest = {"issuer": NAME, "audience": AUDIENCE, "key": "a"}
        del rest[missing]
        with pytest.raises(ValidationError, match=missing):
            JwtSettings.model_validate(rest)
