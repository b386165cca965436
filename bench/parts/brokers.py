"""Towline beside other brokers, by raw clients: bulk push and drain, one job at a time, and the way
of a job from its push to where it is waited for.

Every contestant has one client process, written alike for all, with a connection for each caller.
Servers and clients run all the time, and are asked by turns. A drain ends with its last job.
Towline's jobs come over Work.

One job at a time is asked of every client with the same number of callers, each waiting for its
answer. Callers are tasks of an event loop; *by threads*, and with the SDK, they are threads. Those
of the SDK share a client and its connection, as those of a program do; for RabbitMQ compare both.

*Durable* says that a push is answered when the job is synced to the disk. *Default* is what the
server does if it is told nothing: NATS writes to a file and syncs it every two minutes; Redis
writes snapshots now and then, the soonest a minute after 10,000 changes; beanstalkd keeps nothing.
Between them are *everysec* (an append-only file of Redis, synced each second) and *every 50 ms*
(what beanstalkd does if it is given a journal, and nothing else). RabbitMQ goes by what its client
asks for: *transient* is a queue in memory without confirms, as its tutorial begins. Of Towline's
memory store nothing is kept: it shows what the disk takes of the rest. In brackets is what a figure
is of that of *Towline, file*; p99 is of the samples of all rounds together.

What the processor did meanwhile is that of the whole machine, servers, client and kernel, for each
job; all but one of the servers are idle then.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from bench import processes
from bench.attempts import attempt
from bench.options import Options
from bench.percentiles import percentiles
from bench.raw.process import PEERS, RawClient, raw_client
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
#: Of the processor.
USED = {"all": "CPU of all", "own": "CPU of the client"}
CUTS = {"p50": 0.5, "p99": 0.99}


class Contestant(NamedTuple):
    name: str
    kind: str
    setting: str
    server: str


CONTESTANTS = [
    Contestant("Towline, file", "towline", "", "towline-file"),
    Contestant("Towline, SQLite", "towline", "", "towline-sqlite"),
    Contestant("Towline, memory", "towline", "", "towline-memory"),
    Contestant("Towline SDK, file", "sdk", "", "towline-file"),
    Contestant("Towline SDK, SQLite", "sdk", "", "towline-sqlite"),
    Contestant("Towline SDK, memory", "sdk", "", "towline-memory"),
    Contestant("RabbitMQ classic, durable", "rabbitmq", "classic", "rabbitmq"),
    Contestant("RabbitMQ quorum, durable", "rabbitmq", "quorum", "rabbitmq"),
    Contestant("RabbitMQ classic, by threads", "rabbitmq_threads", "classic", "rabbitmq"),
    Contestant("RabbitMQ quorum, by threads", "rabbitmq_threads", "quorum", "rabbitmq"),
    Contestant("RabbitMQ classic, transient", "rabbitmq", "transient", "rabbitmq"),
    Contestant("NATS JetStream, durable", "nats", "", "nats-always"),
    Contestant("NATS JetStream, default", "nats", "", "nats"),
    Contestant("beanstalkd, durable", "beanstalkd", "", "beanstalkd-0"),
    Contestant("beanstalkd, every 50 ms", "beanstalkd", "", "beanstalkd-50"),
    Contestant("beanstalkd, default", "beanstalkd", "", "beanstalkd"),
    Contestant("Redis streams, durable", "redis", "", "redis-always"),
    Contestant("Redis streams, everysec", "redis", "", "redis-everysec"),
    Contestant("Redis streams, default", "redis", "", "redis"),
]
#: Those of our tests write none, unless told to.
REDIS_DEFAULT = ("save 3600 1", "save 300 100", "save 60 10000")
#: They push from threads, a job at a time, and do nothing else.
BY_THREADS = [each.name for each in CONTESTANTS if each.kind in ("sdk", "rabbitmq_threads")]


@contextmanager
def _towline(store: str) -> Iterator[str]:
    with processes.fresh_folder() as folder:
        urls = {
            "file": f"file:///{folder}/jobs",
            "sqlite": f"sqlite:///{folder}/jobs.db",
            "memory": "memory:",
        }
        with processes.broker(urls[store]) as address:
            yield address


@contextmanager
def _address(new: Callable[[], Any]) -> Iterator[str]:
    with new() as server:
        yield server.address


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "towline-file": lambda: _towline("file"),
    "towline-sqlite": lambda: _towline("sqlite"),
    "towline-memory": lambda: _towline("memory"),
    "rabbitmq": lambda: _address(RabbitServer),
    "nats-always": lambda: _address(lambda: NatsServer("always")),
    "nats": lambda: _address(lambda: NatsServer("2m")),
    "beanstalkd-0": lambda: _address(lambda: BeanstalkdServer("-f0")),
    "beanstalkd-50": lambda: _address(lambda: BeanstalkdServer("-f50")),
    "beanstalkd": lambda: _address(lambda: BeanstalkdServer(None)),
    "redis-always": lambda: _address(
        lambda: RedisServer("redis", "appendonly yes", "appendfsync always")
    ),
    "redis-everysec": lambda: _address(
        lambda: RedisServer("redis", "appendonly yes", "appendfsync everysec")
    ),
    "redis": lambda: _address(lambda: RedisServer("redis", *REDIS_DEFAULT)),
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
            addresses[contestant.server] = ""
            with attempt(part, contestant.server):
                addresses[contestant.server] = stack.enter_context(SERVERS[contestant.server]())
        if address := addresses[contestant.server]:
            with attempt(part, contestant.name):
                if contestant.kind not in ("towline", "sdk") and not PEERS.exists():
                    raise Missing("no clients of others: `make bench-peers` brings them")
                clients[contestant.name] = stack.enter_context(
                    raw_client(contestant.kind, address, contestant.setting)
                )
    return clients


async def _measure(clients: dict[str, RawClient], part: Part, options: Options) -> None:
    seconds = options.pick(0.5, quick=0.1)
    asked = {"do": "bulk", "seconds": seconds, **BULK}
    for who, found in (await _ask_all(clients, part, options.rounds, asked, threads=False)).items():
        shape = f"{BULK['batch']} x {BULK['clients']}"
        for what, name in (("Push", "push"), ("Drain", "work")):
            rates = [answer[name] for answer in found]
            part.figures.append(Figure(RUN, who, what, shape, "jobs/s", rates))
            for whose, told in USED.items():
                used = [answer[f"{name}_used"][whose] for answer in found]
                part.figures.append(Figure(RUN, who, f"{what}, {told}", shape, "µs", used))
    for callers in CALLERS:
        asked = {"do": "dispatch", "seconds": seconds, "callers": callers}
        for who, found in (
            await _ask_all(clients, part, options.rounds, asked, threads=True)
        ).items():
            rates = [answer["push"] for answer in found]
            part.figures.append(
                Figure(RUN, who, "One at a time", f"1 x {callers}", "jobs/s", rates)
            )
    asked = {"do": "start", "times": options.pick(300, quick=50)}
    for who, found in (await _ask_all(clients, part, options.rounds, asked, threads=False)).items():
        rounds = [answer["milliseconds"] for answer in found]
        part.figures.extend(percentiles(RUN, who, "idle", rounds, CUTS))


async def _ask_all(
    clients: dict[str, RawClient],
    part: Part,
    rounds: int,
    request: dict[str, Any],
    *,
    threads: bool,
) -> dict[str, list[dict[str, Any]]]:
    """What each answered in each round, those of ``threads`` only if they are to be asked. A client
    that fails is told of, and taken out: the others go on."""

    async def ask(who: str, client: RawClient) -> dict[str, Any] | None:
        if who not in clients:
            return None
        try:
            return await asyncio.to_thread(client.ask, **request)
        except RuntimeError as error:
            part.failed.append(f"{who}: {error}")
            del clients[who]
            return None

    asked = {
        who: partial(ask, who, client)
        for who, client in clients.items()
        if threads or who not in BY_THREADS
    }
    found = await by_turns(rounds, asked)
    return {
        who: [answer for answer in answers if answer is not None]
        for who, answers in found.items()
        if who in clients
    }
