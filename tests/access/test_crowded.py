"""Who takes every connection that a broker may have does not keep it from what it has to do."""

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import psutil  # type: ignore[import-untyped]

from tests.access.senders import Sender, Tokens
from tests.support.broker_process import BrokerProcess
from tests.support.calls import calls_to
from tests.support.waiting import until
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.server.open_files import RESERVED

PUSH = PushRequest(jobs=[Job(queue="emails", type="T")])
#: Files that the broker may have open, and connections that try to take all of them.
MOST, TRIED = 100, 200
FEW_FILES = ("sh", "-c", f'ulimit -n {MOST} && exec "$@"', "sh")


@contextmanager
def crowd(address: str) -> Iterator[None]:
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        for _ in range(TRIED):
            stack.enter_context(socket.create_connection((host, int(port))))
        yield


async def test_a_token_is_revoked_and_settings_are_reread(tokens: Tokens, tmp_path: Path) -> None:
    config = configured(tmp_path, tokens)
    token = tokens.make("mailer", push=["*"])
    with BrokerProcess("memory:", "--config", str(config), run_by=FEW_FILES) as broker:
        process = psutil.Process(broker.pid)

        async def is_full() -> bool:
            return int(process.num_fds()) >= MOST - RESERVED

        async with calls_to(broker.address) as calls:
            sender = Sender(calls, token)
            await sender.Push(PUSH)

            async def is_refused() -> bool:
                try:
                    await sender.Push(PUSH)
                except grpc.aio.AioRpcError as error:
                    return error.code() is grpc.StatusCode.UNAUTHENTICATED
                return False

            async def is_reread() -> bool:
                return "in force from now on: drain_timeout" in broker.log

            with crowd(broker.address):
                await until(is_full, "the crowd has come in")
                tokens.revoke("mailer")
                await until(is_refused, "the token is refused")
                change(config)
                broker.send_signal(signal.SIGHUP)
                await until(is_reread, "the settings are reread")


def configured(folder: Path, tokens: Tokens) -> Path:
    config = folder / "broker.toml"
    config.write_text(f'[auth]\ntokens = "{tokens.path}"\n')
    return config


def change(config: Path) -> None:
    config.write_text('drain_timeout = "5s"\n' + config.read_text())
