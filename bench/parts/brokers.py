"""Towline beside other brokers, by raw clients: bulk push and drain, one job at a time, and the way
of a job from its push to where it is waited for.

Every contestant has one client process, written alike for all. Servers and clients run all the
time, and are asked by turns. *Durable* says that a push is answered when the job is synced to the
disk; settings that are not are those with which the server comes.
"""

import asyncio
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

from bench import processes
from bench.options import Options
from bench.raw.process import RawClient, raw_client
from bench.results import Figure, Part
from bench.servers.beanstalkd import BeanstalkdServer
from bench.servers.debian import Missing
from bench.servers.nats import NatsServer
from bench.servers.rabbitmq import RabbitServer
from bench.turns import by_turns
from tests.support.servers.redis import RedisServer

RUN = "brokers"
CALLERS = (1, 32)
BULK = {"batch": 100, "clients": 8}


class Contestant(NamedTuple):
    name: str
    kind: str
    setting: str
    server: str


CONTESTANTS = [
    Contestant("Towline, file", "towline", "", "towline-file"),
    Contestant("Towline, SQLite", "towline", "", "towline-sqlite"),
    Contestant("Towline SDK, file", "sdk", "", "towline-file"),
    Contestant("Towline SDK, SQLite", "sdk", "", "towline-sqlite"),
    Contestant("RabbitMQ classic, durable", "rabbitmq", "classic", "rabbitmq"),
    Contestant("RabbitMQ quorum, durable", "rabbitmq", "quorum", "rabbitmq"),
    Contestant("RabbitMQ, default (no confirms)", "rabbitmq", "transient", "rabbitmq"),
    Contestant("NATS JetStream, durable", "nats", "", "nats-always"),
    Contestant("NATS JetStream, default", "nats", "", "nats"),
    Contestant("beanstalkd, durable", "beanstalkd", "", "beanstalkd-0"),
    Contestant("beanstalkd, default", "beanstalkd", "", "beanstalkd"),
    Contestant("Redis streams, durable", "redis", "", "redis-always"),
    Contestant("Redis streams, default", "redis", "", "redis"),
]


@contextmanager
def _towline(store: str) -> Iterator[str]:
    with processes.fresh_folder() as folder:
        url = f"file:///{folder}/jobs" if store == "file" else f"sqlite:///{folder}/jobs.db"
        with processes.broker(url) as address:
            yield address


@contextmanager
def _address(new: Callable[[], Any]) -> Iterator[str]:
    with new() as server:
        yield server.address


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "towline-file": lambda: _towline("file"),
    "towline-sqlite": lambda: _towline("sqlite"),
    "rabbitmq": lambda: _address(RabbitServer),
    "nats-always": lambda: _address(lambda: NatsServer("always")),
    "nats": lambda: _address(lambda: NatsServer("2m")),
    "beanstalkd-0": lambda: _address(lambda: BeanstalkdServer("-f0")),
    "beanstalkd": lambda: _address(lambda: BeanstalkdServer("-f50")),
    "redis-always": lambda: _address(
        lambda: RedisServer("redis", "appendonly yes", "appendfsync always")
    ),
    "redis": lambda: _address(
        lambda: RedisServer("redis", "appendonly yes", "appendfsync everysec")
    ),
}


def run(part: Part, options: Options) -> None:
    with ExitStack() as stack:
        clients = _start(stack, part)
        asyncio.run(_measure(clients, part, options))
    options.tell(part.figures)


def _start(stack: ExitStack, part: Part) -> dict[str, RawClient]:
    addresses: dict[str, str] = {}
    clients = {}
    for contestant in CONTESTANTS:
        if contestant.server not in addresses:
            try:
                addresses[contestant.server] = stack.enter_context(SERVERS[contestant.server]())
            except Missing as missing:
                addresses[contestant.server] = ""
                part.missing.append(str(missing))
        if address := addresses[contestant.server]:
            clients[contestant.name] = stack.enter_context(
                raw_client(contestant.kind, address, contestant.setting)
            )
    return clients


async def _measure(clients: dict[str, RawClient], part: Part, options: Options) -> None:
    seconds = options.pick(0.5, quick=0.1)
    asked = {"do": "bulk", "seconds": seconds, **BULK}
    raw = {who: client for who, client in clients.items() if "SDK" not in who}
    for who, found in (await _ask_all(raw, options.rounds, asked)).items():
        shape = f"{BULK['batch']} x {BULK['clients']}"
        for what, name in (("Push", "push"), ("Drain", "work")):
            rates = [answer[name] for answer in found]
            part.figures.append(Figure(RUN, who, what, shape, "jobs/s", rates))
    for callers in CALLERS:
        asked = {"do": "dispatch", "seconds": seconds, "callers": callers}
        for who, found in (await _ask_all(clients, options.rounds, asked)).items():
            rates = [answer["push"] for answer in found]
            part.figures.append(
                Figure(RUN, who, "One at a time", f"1 x {callers}", "jobs/s", rates)
            )
    asked = {"do": "start", "times": options.pick(300, quick=50)}
    for who, found in (await _ask_all(raw, options.rounds, asked)).items():
        cuts = [statistics.quantiles(answer["milliseconds"], n=100) for answer in found]
        for what, place in (("Push to start, p50", 49), ("Push to start, p99", 98)):
            part.figures.append(Figure(RUN, who, what, "idle", "ms", [cut[place] for cut in cuts]))


async def _ask_all(
    clients: dict[str, RawClient], rounds: int, request: dict[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    def turn(client: RawClient) -> Callable[[], Any]:
        return lambda: asyncio.to_thread(client.ask, **request)

    return await by_turns(rounds, {who: turn(client) for who, client in clients.items()})
