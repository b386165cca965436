"""What pages show for Redis, systemd, Kubernetes and other clients of gRPC is what those take."""

import configparser
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import grpc
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.documentation.scene import Scene
from tests.documentation.shell import calls
from tests.support.pages import ROOT, blocks
from tests.support.servers.redis import RedisServer
from towline.v1.queue_service_pb2 import PushRequest, PushResponse
from towline.v1.queue_service_pb2_grpc import QueueServiceStub


def test_redis_takes_what_it_is_told_and_a_broker_finds_it_durable(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings,) = blocks("docs/redis.md", "conf")
    (user,) = blocks("docs/redis.md", "redis")
    with RedisServer("redis", *settings.splitlines()) as server:
        server.execute(*user.split())
        url = f"redis://towline:password@{server.address}/0"
        [call] = calls(f"towline-broker doctor --listen 127.0.0.1:0 --json --store {url}")
        found = json.loads(scene.run(call, monkeypatch, as_typed=True).out)
    about = [each for each in found if each["about"] == "store default"]
    assert about
    assert [each for each in about if each["level"] != "ok"] == []


def test_the_unit_of_systemd_has_what_the_one_that_is_shipped_has(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = blocks("docs/operations.md", "ini")
    unit, shipped = (configparser.RawConfigParser(strict=False) for _ in range(2))
    unit.read_string(shown)
    shipped.read_string((ROOT / "deploy/systemd/towline-broker.service").read_text())
    command = unit["Service"].pop("ExecStart")
    [call] = calls(command.replace(" serve ", " config check "))
    done = scene.run(call, monkeypatch)
    assert done.code == 0, done.err
    assert set(unit["Service"]) <= set(shipped["Service"])
    for name in ("Restart", "RestartPreventExitStatus"):
        assert unit["Service"][name] == shipped["Service"][name]


def test_the_probes_of_a_worker_tell_how_it_is(scene: Scene) -> None:
    (shown,) = blocks("docs/workers.md", "yaml")
    parts = yaml.safe_load(shown)
    spec = {
        "terminationGracePeriodSeconds": parts.pop("terminationGracePeriodSeconds"),
        "containers": [{"name": "worker", "image": "worker", **parts}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "worker"}, "spec": spec}
    kubernetes_validate.validate(pod, "1.29", strict=True)
    for probe in parts.values():
        command = [scene.here(word) for word in probe["exec"]["command"]]
        gone = [word.replace("/health", "/none") for word in command]
        assert ended(gone) > 0
        until(partial(succeeds, command))


def succeeds(command: list[str]) -> bool:
    return ended(command) == 0


def until(true: Callable[[], bool]) -> None:
    patience = time.monotonic() + 60
    while not true():
        assert time.monotonic() < patience
        time.sleep(0.05)


def ended(command: list[str]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_the_service_config_repeats_a_call_that_was_refused() -> None:
    (shown,) = blocks("docs/operations.md", "json")
    with server_that_is_there_at_the_second_call() as address:
        options = [("grpc.service_config", shown)]
        with grpc.insecure_channel(address, options=options) as channel:
            assert QueueServiceStub(channel).Push(PushRequest(), timeout=30) == PushResponse()


@contextmanager
def server_that_is_there_at_the_second_call() -> Iterator[str]:
    called: list[str] = []

    def push(request: bytes, context: grpc.ServicerContext) -> bytes:
        called.append("Push")
        if len(called) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return b""

    server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Push": grpc.unary_unary_rpc_method_handler(push)
    }
    service = grpc.method_handlers_generic_handler("towline.v1.QueueService", methods)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
    assert called == ["Push", "Push"]
