"""All methods of a broker, with requests that are mutations of good ones and of each other."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

import grpc

from tests.fuzz.answers import Wrong
from tests.fuzz.fuzzed_broker import METHODS, FuzzedBroker
from tests.fuzz.mutation import ByteMutator, MessageMutator
from tests.fuzz.seeds import IDS, QUEUES, TOKENS, TYPES, openings, requests
from tests.fuzz.state_checks import check_empty, check_state
from tests.fuzz.streams import STREAMED
from tests.fuzz.targets import Found, Stopwatch, Target
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as queue
from towline.v1.job_pb2 import Job
from towline_broker.domain.time import DAY
from towline_broker.drivers.interface import Driver
from towline_broker.drivers.memory.driver import MemoryDriver
from towline_broker.drivers.memory.engine import Engine
from towline_broker.services.paging import to_token

KINDS = {**METHODS, **STREAMED}
#: How often each is called; others: once.
WEIGHTS = {"Push": 8, "Reserve": 8, "Ack": 4, "Nack": 5, "Heartbeat": 4, "CancelJob": 2}
WEIGHTS |= {"PushStream": 4, "Work": 4}
#: Messages of a stream.
MESSAGES = range(1, 5)
#: How often a stream of leases is opened as it should be.
OPENED = 0.9
#: Calls between two looks at the clock.
ROUND = 50
#: Longer than any delay, retention or unique key that can be asked for.
FOR_EVER = 3_700 * DAY
#: So far from all others that none of them is changed into it.
GOOD_ID = "fedcba98-7654-7321-8fed-cba987654321"
#: Where a page may be said to begin by who makes up its token.
CURSORS = ("0", "-1", "9" * 30, "9" * 5_000, "1.1", "1.1.1", "x", "\0", "1e3", "٣", "", ".", "1.")


class CallsTarget(Target):
    """``driver``: makes the store of an epoch."""

    def __init__(
        self,
        name: str = "calls",
        driver: Callable[[], Driver] = lambda: MemoryDriver(Engine()),
        size: int = 10_000,
    ) -> None:
        self.name = name
        self.size = size
        self._driver = driver
        self._paths = {path.rpartition("/")[2]: path for path in KINDS}
        self._methods = [name for name in self._paths for _ in range(WEIGHTS.get(name, 1))]
        self._seeds = {
            name: [message.SerializeToString() for message in messages]
            for name, messages in requests().items()
        }
        self._seeds["ListJobs"] += [
            queue.ListJobsRequest(page_token=to_token(cursor, "jobs   []")).SerializeToString()
            for cursor in CURSORS
        ]

    def epoch(self, rng: Random, count: int) -> Counter[str]:
        with _same_ids_again(rng), _no_errors_logged():
            return asyncio.run(self._epoch(rng, count))

    async def _epoch(self, rng: Random, count: int) -> Counter[str]:
        driver = self._driver()
        async with FuzzedBroker(driver) as broker:
            with _no_secrets_logged(broker.callers.secrets):
                return await self._calls(broker, driver, rng, count)

    async def _calls(
        self, broker: FuzzedBroker, driver: Driver, rng: Random, count: int
    ) -> Counter[str]:
        session = _Session(broker, rng, self._paths, self._seeds)
        done = 0
        while done < count:
            for _ in range(min(ROUND, count - done)):
                await session.one(rng.choice(self._methods))
                done += 1
            await session.pass_time()
        await session.check_good_calls()
        if isinstance(driver, MemoryDriver):
            check_state(driver._engine.state)
            await session.empty()
            check_state(driver._engine.state)
            check_empty(driver._engine.state, broker.broker)
        return session.answers


class _Session:
    def __init__(
        self,
        broker: FuzzedBroker,
        rng: Random,
        paths: dict[str, str],
        seeds: dict[str, list[bytes]],
    ) -> None:
        self.answers: Counter[str] = Counter()
        self._broker = broker
        self._rng = rng
        self._paths = paths
        self._seeds = seeds
        self._openings = [opening.SerializeToString() for opening in openings()]
        self._texts: deque[str] = deque([*IDS, *QUEUES, *TYPES, *TOKENS, "w1", "again 1"], 80)
        self._fields = MessageMutator(rng, self._texts)
        self._bytes = ByteMutator(rng)
        self._parked: list[tuple[str, bytes, asyncio.Task[Any]]] = []

    async def one(self, method: str) -> None:
        rng, path = self._rng, self._paths[method]
        if path in STREAMED:
            await self._stream(method, path)
            return
        raw = self._mutated(method)
        metadata = self._broker.callers.any_of_them(rng)
        if method in ("Reserve", "GetJob") and rng.random() < 0.1:
            task = asyncio.ensure_future(self._broker.call(path, raw, metadata, parks=True))
            self._parked.append((method, raw, task))
            return
        try:
            with Stopwatch(method, raw):
                answer = await self._broker.call(path, raw, metadata)
        except Found:
            raise
        except Exception as error:
            raise Found(method, raw, error) from error
        self._heard(method, answer.code, answer.reply)

    async def _stream(self, method: str, path: str) -> None:
        rng = self._rng
        raws = [self._mutated(method) for _ in range(rng.choice(MESSAGES))]
        if method == "Work" and rng.random() < OPENED:
            raws.insert(0, rng.choice(self._openings))
        metadata = self._broker.callers.any_of_them(rng)
        shown = b"\n--\n".join(raws)
        try:
            with Stopwatch(method, shown):
                answer = await self._broker.stream(path, raws, metadata)
        except Found:
            raise
        except Exception as error:
            raise Found(method, shown, error) from error
        self.answers[f"{method} {answer.code.name}"] += 1
        for result in answer.reply.results:
            self.answers[f"{method}, messages {'failed' if result.error.code else 'done'}"] += 1
        if method == "Work":
            self._texts.extend(lease.lease_token for lease in answer.reply.leases[:8])

    def _mutated(self, method: str) -> bytes:
        rng = self._rng
        raw = rng.choice(self._seeds[method])
        roll = rng.random()
        if roll < 0.25:
            return self._bytes.mutate(raw)
        if roll < 0.3:
            return self._bytes.splice(raw, rng.choice(self._seeds[rng.choice(list(self._seeds))]))
        if roll < 0.4:
            return raw
        return self._fields.mutate(raw, KINDS[self._paths[method]])

    def _heard(self, method: str, code: grpc.StatusCode, reply: Any) -> None:
        """Ids and tokens that the broker has given go into later requests."""
        self.answers[f"{method} {code.name}"] += 1
        match reply:
            case queue.PushResponse():
                self._texts.extend(result.job_id for result in reply.results[:2])
            case queue.ReserveResponse():
                self._texts.extend(lease.lease_token for lease in reply.leases[:8])
            case queue.ListJobsResponse() | dead.ListDeadResponse() if reply.next_page_token:
                self._texts.append(reply.next_page_token)

    async def pass_time(self) -> None:
        """Calls that are parked have to come back within the time they were granted."""
        await self._broker.pass_time(self._rng.choice((60, 100, 1_100)))
        parked, self._parked = self._parked, []
        for _ in range(100):
            under_way = [task for _, _, task in parked if not task.done()]
            if not under_way:
                break
            # A store on a disk may have answered late, and the wait may have begun late.
            await asyncio.wait(under_way, timeout=0.05)
            await self._broker.pass_time(60)
        for method, raw, task in parked:
            if not task.done():
                raise Found(method, raw, "is parked for longer than it may be")
            error = task.exception()
            if error is not None:
                raise Found(method, raw, error) from error
            self._heard(method, task.result().code, task.result().reply)

    async def check_good_calls(self) -> None:
        """A broker that was sent all that still serves who asks nicely. Raises Wrong."""
        job = Job(queue="good", type="T", id=GOOD_ID)
        pushed = await self._good("Push", queue.PushRequest(jobs=[job]))
        if pushed.results[0].outcome != queue.PUSH_OUTCOME_CREATED:
            raise Wrong(f"the Push of a good job was answered {pushed.results[0]}")
        wanted = queue.ReserveRequest(queues=[queue.QueueChoice(name="good")])
        leases = (await self._good("Reserve", wanted)).leases
        if not [lease for lease in leases if lease.job.id == pushed.results[0].job_id]:
            raise Wrong("a good job was not delivered")
        ack = queue.AckRequest(acks=[queue.Ack(lease_token=leases[0].lease_token)])
        outcome = (await self._good("Ack", ack)).results[0].outcome
        if outcome != queue.LEASE_OUTCOME_OK:
            raise Wrong(f"the Ack of a good job was answered {outcome}")
        await self._good("Stats", admin.StatsRequest())
        await self._good("ListJobs", queue.ListJobsRequest())
        await self._good("ListDead", dead.ListDeadRequest())

    async def empty(self) -> None:
        """Removes every job, and lets all time pass."""
        selection = dead.DeadSelection(filter=dead.DeadFilter())
        await self._broker.skip(FOR_EVER)
        while True:
            queues = (await self._good("ListQueues", admin.ListQueuesRequest())).queues
            purges = [admin.PurgeQueueRequest(queue=each.name) for each in queues]
            gone = sum([(await self._good("PurgeQueue", purge)).purged for purge in purges])
            discard = dead.DiscardDeadRequest(selection=selection)
            gone += (await self._good("DiscardDead", discard)).discarded
            if not gone:
                break
        await self._broker.skip(FOR_EVER)
        await self._broker.rest()

    async def _good(self, method: str, request: Any) -> Any:
        answer = await self._broker.call(self._paths[method], request.SerializeToString())
        if answer.code is not grpc.StatusCode.OK:
            raise Wrong(f"a good {method} was answered {answer.code.name}")
        return answer.reply


@contextmanager
def _same_ids_again(rng: Random) -> Iterator[None]:
    """Ids and tokens by the seed, so that an epoch can be repeated."""
    numbers = count(1)

    def new_id() -> str:
        return str(UUID(int=0x0190A000_0000_7000_9000_000000000000 + next(numbers)))

    def new_grant(mark: str) -> str:
        return f"{rng.getrandbits(48):012x}{mark}"

    with (
        patch("towline_broker.services.pushing.uuid7", new_id),
        patch("towline_broker.core.tokens.new_grant", new_grant),
    ):
        yield


class _Listener(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


@contextmanager
def _heard(name: str, level: int) -> Iterator[list[str]]:
    """The lines of a log from this level on, which go nowhere else."""
    listener, log = _Listener(level), logging.getLogger(name)
    log.addHandler(listener)
    was = log.propagate, log.level
    log.propagate, log.level = False, level
    try:
        yield listener.records
    finally:
        log.removeHandler(listener)
        log.propagate, log.level = was


@contextmanager
def _no_errors_logged() -> Iterator[None]:
    """What happens behind the calls, such as upkeep, tells of its defects in the log only."""
    with _heard("towline.broker", logging.ERROR) as errors:
        yield
    if errors:
        raise Wrong(f"{len(errors)} errors in the log; the first: {errors[0]}")


@contextmanager
def _no_secrets_logged(secrets: Sequence[str]) -> Iterator[None]:
    """Nor any part of one, when calls are refused."""
    with _heard("towline.access", logging.INFO) as lines:
        yield
    told = "\n".join(lines)
    if any(part in told for secret in secrets for part in (secret[-20:], secret[4:24])):
        raise Wrong("a token is in the log of refused calls")
