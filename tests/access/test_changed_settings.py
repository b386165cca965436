"""[auth] that changes while the broker serves: as a whole, at once, and never nobody is asked."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.access.issuer import AUDIENCE, NAME, Issuer
from tests.access.senders import Sender, Tokens
from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, calls_to, failure_of, seconds
from tests.support.waiting import until
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest, QueueChoice, ReserveRequest
from towline_broker.domain.errors import CannotVerify
from towline_broker.server.configuration.auth_settings import AuthSettings
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.exits import ConfigError
from towline_broker.server.identity.authenticating import Credentials
from towline_broker.server.identity.jwt_verifier import JwtVerifier
from towline_broker.server.life.reloading import differences, taken_over
from towline_broker.server.serving import BrokerServer

PUSH = PushRequest(jobs=[Job(queue="emails", type="T")])
WAIT = ReserveRequest(queues=[QueueChoice(name="emails")], wait=seconds(50), worker_id="w")
ALL: dict[str, Any] = {"push": ["*"], "work": ["*"]}


def change(server: BrokerServer, queues: Any = None, **auth: Any) -> None:
    wanted = Settings(store="memory:", listen="127.0.0.1:0", auth=auth, queues=queues or {})
    server.reload(taken_over(server.settings, wanted))


async def code_of(call: Any) -> grpc.StatusCode:
    return (await failure_of(call)).code


async def test_tokens_of_another_file_are_taken_and_those_of_the_one_before_are_not(
    server: BrokerServer, calls: Calls, tokens: Tokens, tmp_path: Path
) -> None:
    others = Tokens(tmp_path / "others.json")
    old, new = tokens.make("worker", **ALL), others.make("worker", **ALL)
    assert await code_of(Sender(calls, new).Push(PUSH)) is grpc.StatusCode.UNAUTHENTICATED
    waiting = asyncio.ensure_future(code_of(Sender(calls, old).Reserve(WAIT)))
    await until(server.broker.operating.workers, "the call has come in")
    change(server, tokens=others.path)
    assert await waiting is grpc.StatusCode.UNAUTHENTICATED
    assert await code_of(Sender(calls, old).Push(PUSH)) is grpc.StatusCode.UNAUTHENTICATED
    await Sender(calls, new).Push(PUSH)
    others.revoke("worker")  # it is the file that is looked at from now on
    assert await code_of(Sender(calls, new).Push(PUSH)) is grpc.StatusCode.UNAUTHENTICATED


async def test_with_a_file_that_cannot_be_read_nothing_changes(
    server: BrokerServer, calls: Calls, tokens: Tokens, tmp_path: Path
) -> None:
    sender = Sender(calls, tokens.make("worker", **ALL))
    jwt = {"issuer": NAME, "audience": AUDIENCE, "jwks": tmp_path / "none.json"}
    full = {"emails": {"max_depth": 1}}
    with pytest.raises(ConfigError, match=r"auth\.jwt\.jwks: .*none\.json cannot be read"):
        change(server, full, tokens=tokens.path, jwt=jwt)
    with pytest.raises(ConfigError, match=r"auth\.tokens: .*none\.json does not exist"):
        change(server, full, tokens=tmp_path / "none.json")
    await sender.Push(PUSH)
    await sender.Push(PUSH)  # the depth has not changed either
    change(server, full, tokens=tokens.path)
    assert await code_of(sender.Push(PUSH)) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_another_issuer_and_other_rights_hold_for_tokens_that_were_found_good(
    server: BrokerServer, calls: Calls, tokens: Tokens, tmp_path: Path
) -> None:
    issuer, other = Issuer(), Issuer("key-2")
    jwt: dict[str, Any] = {
        "issuer": NAME,
        "audience": AUDIENCE,
        "jwks": issuer.write_key_set(tmp_path / "keys.json"),
        "subjects": {"worker": ALL},
    }
    change(server, tokens=tokens.path, jwt=jwt)
    sender = Sender(calls, issuer.sign("worker"))
    await sender.Push(PUSH)
    idle = ReserveRequest(queues=[QueueChoice(name="idle")], wait=seconds(50), worker_id="w")
    waiting = asyncio.ensure_future(code_of(sender.Reserve(idle)))
    await until(server.broker.operating.workers, "the call has come in")
    jwt["subjects"] = {"worker": {"push": ["bills"]}}
    change(server, tokens=tokens.path, jwt=jwt)
    assert await code_of(sender.Push(PUSH)) is grpc.StatusCode.PERMISSION_DENIED
    assert await waiting is grpc.StatusCode.UNAVAILABLE  # so that it comes again
    jwt["subjects"] = {"worker": ALL}
    jwt["jwks"] = other.write_key_set(tmp_path / "others.json")
    change(server, tokens=tokens.path, jwt=jwt)
    assert await code_of(sender.Push(PUSH)) is grpc.StatusCode.UNAUTHENTICATED
    await Sender(calls, other.sign("worker")).Push(PUSH)
    change(server, tokens=tokens.path)
    assert await code_of(Sender(calls, other.sign("worker")).Push(PUSH)) is (
        grpc.StatusCode.UNAUTHENTICATED
    )


async def test_what_became_of_each_kind_of_credentials_is_known_afterwards(
    tmp_path: Path, tokens: Tokens
) -> None:
    issuer = Issuer()
    jwt = {
        "issuer": NAME,
        "audience": AUDIENCE,
        "jwks": issuer.write_key_set(tmp_path / "keys.json"),
    }

    def settings(audience: str = AUDIENCE, **subjects: Any) -> AuthSettings:
        return AuthSettings.model_validate(
            {"jwt": {**jwt, "audience": audience}, "subjects": subjects}
        )

    credentials = Credentials(settings(mailer=ALL))
    by_jwt = await credentials.by_token(issuer.sign("worker"))
    by_cert = credentials.by_certificate([b"mailer"])
    assert by_cert is not None
    credentials.replace(credentials.prepare(settings(mailer=ALL)))
    assert credentials.by_now(by_jwt) == by_jwt
    assert credentials.by_now(by_cert) == by_cert
    credentials.replace(credentials.prepare(settings(mailer=ALL, other={})))
    assert credentials.by_now(by_jwt) == by_jwt  # what has not changed was left alone
    credentials.replace(credentials.prepare(settings("another", mailer={})))
    assert credentials.by_now(by_jwt) not in (by_jwt, None)  # to be verified again
    assert credentials.by_now(by_cert) not in (by_cert, None)
    credentials.replace(credentials.prepare(AuthSettings(tokens=tokens.path)))
    assert credentials.by_now(by_jwt) is None
    assert credentials.by_now(by_cert) is None


async def test_a_token_that_was_being_verified_is_not_let_in_by_the_settings_before(
    tmp_path: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = Issuer()
    keys = issuer.write_key_set(tmp_path / "keys.json")
    auth = {"tokens": tokens.path, "jwt": {"issuer": NAME, "audience": AUDIENCE, "jwks": keys}}
    credentials = Credentials(AuthSettings.model_validate(auth))
    verify = JwtVerifier.verify

    async def slowly(self: JwtVerifier, token: str) -> Any:
        found = await verify(self, token)
        credentials.replace(credentials.prepare(AuthSettings(tokens=tokens.path)))
        return found

    monkeypatch.setattr(JwtVerifier, "verify", slowly)
    with pytest.raises(CannotVerify):
        await credentials.by_token(issuer.sign("worker"))


def test_whether_anybody_is_asked_is_decided_at_the_start(tmp_path: Path) -> None:
    asks = Settings(auth={"tokens": tmp_path / "tokens.json"}, log_level="info")
    asks_nobody = Settings(log_level="debug")
    for running, wanted in ((asks, asks_nobody), (asks_nobody, asks)):
        settings = taken_over(running, wanted)
        assert settings.auth == running.auth
        assert settings.log_level == wanted.log_level
        assert differences(settings, wanted) == [("auth", "tokens")]


async def test_on_sighup_the_log_says_what_holds_and_what_waits_for_the_next_start(
    tmp_path: Path, tokens: Tokens
) -> None:
    others = Tokens(tmp_path / "others.json")
    new = others.make("worker", **ALL)
    path = tmp_path / "towline-broker.toml"

    async def reread(content: str, told: str) -> str:
        path.write_text(content)
        before = len(broker.log)
        broker.send_signal(signal.SIGHUP)

        async def has_told() -> bool:
            return told in broker.log[before:]

        await until(has_told, f"the broker tells {told}")
        return broker.log[before:]

    path.write_text(f'[auth]\ntokens = "{tokens.path}"')
    with BrokerProcess("memory:", "--http", "off", folder=tmp_path) as broker:
        async with calls_to(broker.address) as calls:
            await reread(f'[auth]\ntokens = "{others.path}"', "in force from now on: auth.tokens")
            await Sender(calls, new).Push(PUSH)
            told = await reread("", "settings that take effect at the next start: auth.tokens")
            assert "nothing that can change while the broker runs has changed" in told
            assert await code_of(calls.queue.Push(PUSH)) is grpc.StatusCode.UNAUTHENTICATED
            told = await reread('[auth]\ntokens = "none.json"', "those before stay in force")
            assert "wrong setting: auth.tokens: none.json does not exist" in told
            await Sender(calls, new).Push(PUSH)
            assert await code_of(calls.queue.Push(PUSH)) is grpc.StatusCode.UNAUTHENTICATED
            told = await reread(
                f'[auth]\ntokens = "{others.path}"\n[stores]\nfast = "memory:"\n'
                '[queues.emails]\nstore = "fast"',
                "settings that take effect at the next start",
            )
            assert "stores.fast" in told
            assert "queues.emails.store" in told
