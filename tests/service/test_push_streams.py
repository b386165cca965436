"""PushStream: every push is answered once, by what becomes of it alone, however the stream ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import grpc
import pytest

from tests.support.broker_process import BrokerProcess
from tests.support.calls import Calls, calls_to
from tests.support.faulty_driver import FaultyDriver
from tests.support.streams import Pushes, job, pushing
from tests.support.waiting import until
from towline.v1.errors_pb2 import BadRequest, ErrorInfo, Status
from towline.v1.queue_service_pb2 import (
    PushOutcome,
    PushRequest,
    PushResponse,
    PushResult,
    PushStreamRequest,
    PushStreamResponse,
    QueueChoice,
    ReserveRequest,
    StreamedPush,
    StreamedPushResult,
)
from towline_broker.domain.errors import (
    QueueMoved,
    StoreUnavailable,
    StreamOver,
    Unauthenticated,
)
from towline_broker.domain.time import SECOND
from towline_broker.server.configuration.settings import CoreOptions, Settings
from towline_broker.server.serving import BrokerServer, running_broker
from towline_broker.services.streams import lifetime, parts
from towline_broker.services.streams import stream as stream_module
from towline_broker.services.streams.lifetime import OpenStreams
from towline_broker.services.streams.stream import MOST_OWED, Stream
from towline_broker.streaming import Scope

CREATED = PushOutcome.PUSH_OUTCOME_CREATED
EXISTING = PushOutcome.PUSH_OUTCOME_EXISTING
REJECTED = PushOutcome.PUSH_OUTCOME_REJECTED


def reason(error: Status) -> str:
    return next(
        ErrorInfo.FromString(each.value).reason
        for each in error.details
        if each.type_url.endswith("ErrorInfo")
    )


async def ready(calls: Calls, number: int) -> list[str]:
    """The ids of the next jobs, in the order in which they are given."""
    request = ReserveRequest(queues=[QueueChoice(name="q")], max_jobs=number)
    return [lease.job.id for lease in (await calls.queue.Reserve(request)).leases]


@asynccontextmanager
async def served(driver: FaultyDriver) -> AsyncIterator[tuple[BrokerServer, Calls]]:
    async with (
        running_broker(driver=driver.driver) as server,
        calls_to(str(server.address)) as calls,
    ):
        yield server, calls


async def test_each_push_is_answered_under_its_number(calls: Calls) -> None:
    one, two, three = job(), job(), job()
    async with pushing(calls) as stream:
        first = await stream.push(one)
        assert [(r.job_id, r.outcome) for r in first.response.results] == [(one.id, CREATED)]
        again = await stream.push(one)
        assert [r.outcome for r in again.response.results] == [EXISTING]
        both = await stream.push(two, three)
        assert [r.job_id for r in both.response.results] == [two.id, three.id]
        assert await stream.finish() is grpc.StatusCode.OK
    assert await ready(calls, 9) == [one.id, two.id, three.id]


async def test_a_push_that_is_refused_changes_nothing_for_those_behind_it(calls: Calls) -> None:
    good, last = job(), job()
    async with pushing(calls) as stream:
        bad = PushRequest(jobs=[job(), job(queue="no queue")])
        none = PushRequest()
        requests = [bad, PushRequest(jobs=[good]), none, PushRequest(jobs=[last])]
        first, *others = await stream.send_all(requests)
        error = (await stream.answer(first)).error
        details = next(d for d in error.details if d.type_url.endswith("BadRequest"))
        (violation,) = BadRequest.FromString(details.value).field_violations
        assert (error.code, reason(error), violation.field) == (3, "INVALID_FIELD", "jobs[1].queue")
        stored, empty, behind = [await stream.answer(each) for each in others]
        assert stored.response.results[0].outcome == CREATED
        assert empty.error.message.startswith("jobs: has 0 entries")
        assert behind.response.results[0].outcome == CREATED
        partial = await stream.push(job(queue="no queue"), job("other"), partial=True)
        assert [r.outcome for r in partial.response.results] == [REJECTED, CREATED]
        assert await stream.finish() is grpc.StatusCode.OK
    assert await ready(calls, 9) == [good.id, last.id]


async def test_jobs_are_stored_in_the_order_in_which_they_were_sent(calls: Calls) -> None:
    jobs = [job(payload=b"x" * (number % 7)) for number in range(400)]
    async with pushing(calls) as stream:
        for start in range(0, 400, 8):
            some = jobs[start : start + 5]
            await stream.send_all([PushRequest(jobs=[each]) for each in some])
            await stream.send(*jobs[start + 5 : start + 7])
            await stream.send(jobs[start + 7], partial=True)
        assert await stream.finish() is grpc.StatusCode.OK
        assert len(stream.results) == 50 * 7
    assert await ready(calls, 400) == [each.id for each in jobs]


class Busy(NamedTuple):
    """Two streams with a push each under way, in a store that ends none until it is let go."""

    driver: FaultyDriver
    calls: Calls
    streams: tuple[Pushes, Pushes]
    #: Of the batches that the store was given.
    sizes: list[int]


@asynccontextmanager
async def busy() -> AsyncIterator[Busy]:
    """The store has moved one queue elsewhere, "moved"."""
    driver, sizes = FaultyDriver(), []
    inner = driver._inner
    push = inner.push

    async def counted(batch: Any) -> Any:
        sizes.append(len(batch.jobs))
        if any(new.queue == "moved" for new in batch.jobs):
            raise QueueMoved("moved", "another")
        return await push(batch)

    async def both() -> bool:
        return sum(sizes) == 2

    cast(Any, inner).push = counted
    async with served(driver) as (_, calls), pushing(calls) as a, pushing(calls) as b:
        driver.hold("push")
        await a.send(job())
        await b.send(job())
        await until(both, "both are under way")
        yield Busy(driver, calls, (a, b), sizes)


async def test_what_comes_while_the_store_is_busy_is_one_batch_of_all_streams() -> None:
    async with busy() as (driver, _, (a, b), sizes):
        before = len(sizes)
        for _ in range(20):
            await a.send(job())
            await b.send(job())
        await asyncio.sleep(0)
        driver.let_go("push")
        assert await a.finish() is await b.finish() is grpc.StatusCode.OK
        assert sum(sizes) == 42
        assert len(sizes) - before <= 20


async def test_a_push_that_is_refused_for_its_queue_fails_none_of_other_streams() -> None:
    async with busy() as (driver, calls, (a, b), sizes):
        of_moved, of_other = await a.send(job("moved")), await b.send(job())
        await ready(calls, 2)  # the broker has heard of them before it hears of this
        driver.let_go("push")
        refused = await a.answer(of_moved)
        assert "has moved" in refused.error.message
        assert (await b.answer(of_other)).response.results[0].outcome == CREATED
        assert sizes[-3:] == [2, 1, 1]


async def test_a_store_that_is_away_fails_pushes_and_not_the_stream() -> None:
    driver = FaultyDriver()
    async with served(driver) as (_, calls), pushing(calls) as stream:
        driver.errors["push"] = StoreUnavailable("its host, which is nobody's business")
        refused = await stream.push(job())
        assert (refused.error.code, reason(refused.error)) == (14, "STORE_UNAVAILABLE")
        assert "nobody" not in refused.error.message
        driver.errors["push"] = RuntimeError("of a defect")
        failed = await stream.push(job())
        assert (failed.error.code, reason(failed.error)) == (13, "INTERNAL")
        assert "defect" not in failed.error.message
        del driver.errors["push"]
        assert (await stream.push(job())).response.results[0].outcome == CREATED


@pytest.mark.parametrize("raw", [b"\xff\xff", b"", PushStreamRequest().SerializeToString()])
async def test_bytes_that_are_no_message_end_the_stream(calls: Calls, raw: bytes) -> None:
    call: Any = calls.channel.stream_stream("/towline.v1.QueueService/PushStream")()
    await call.write(raw)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_more_pushes_in_one_message_than_there_may_be_end_the_stream(calls: Calls) -> None:
    push = StreamedPush(request=PushRequest(jobs=[job()]))
    async with pushing(calls) as stream:
        await stream.call.write(PushStreamRequest(pushes=[push] * 1_001))
        assert await stream.ended() is grpc.StatusCode.INVALID_ARGUMENT
    async with pushing(calls) as stream:
        await stream.send_all([PushRequest(jobs=[job()])] * 1_000)
        assert await stream.finish() is grpc.StatusCode.OK
        assert len(stream.results) == 1_000


async def test_a_drain_ends_streams_once_everything_that_was_sent_is_answered() -> None:
    driver = FaultyDriver()
    async with served(driver) as (server, calls), pushing(calls) as stream:
        assert (await stream.push(job())).response.results[0].outcome == CREATED
        driver.hold("push")
        under_way = await stream.send(job())
        await driver.reached["push"].wait()
        draining = asyncio.ensure_future(server.drain(30 * SECOND))
        await stream.until(lambda: stream.closing)
        late = await stream.send(job())
        driver.let_go("push")
        assert (await stream.answer(under_way)).response.results[0].outcome == CREATED
        refused = (await stream.answer(late)).error
        assert (refused.code, reason(refused)) == (14, "DRAINING")
        assert await stream.finish() is grpc.StatusCode.OK
        await draining
        assert await Pushes(calls).ended() is grpc.StatusCode.UNAVAILABLE


async def test_a_stream_is_told_of_its_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "CLOSING_GRACE", 60.0)
    settings = Settings(store="memory:", listen="127.0.0.1:0", max_stream_age="1s")
    async with (
        running_broker(settings) as server,
        calls_to(str(server.address)) as calls,
        pushing(calls) as stream,
    ):
        await stream.until(lambda: stream.closing)
        assert (await stream.push(job())).response.results[0].outcome == CREATED
        assert await stream.finish() is grpc.StatusCode.OK


async def test_a_stream_that_does_not_end_in_time_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetime, "CLOSING_GRACE", 0.1)
    settings = Settings(store="memory:", listen="127.0.0.1:0", max_stream_age="1s")
    async with (
        running_broker(settings) as server,
        calls_to(str(server.address)) as calls,
        pushing(calls) as stream,
    ):
        assert await stream.ended() is grpc.StatusCode.UNAVAILABLE
        assert stream.closing
        assert "STREAM_OVER" in str(await stream.call.trailing_metadata())


async def test_a_stream_with_a_deadline_is_closed_before_it(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "CLOSING_GRACE", 60.0)
    async with pushing(calls, timeout=60.0) as stream:
        await stream.until(lambda: stream.closing)
        assert (await stream.push(job())).response.results[0].outcome == CREATED
        assert await stream.finish() is grpc.StatusCode.OK


async def test_credentials_run_out_while_a_stream_says_nothing() -> None:
    class Silent:
        async def read(self) -> None:
            await asyncio.Event().wait()

    context: Any = Silent()
    life = lifetime.Lifetime(set(), 60.0, None, time.time() + 0.1)
    async with asyncio.timeout(20):
        with pytest.raises(Unauthenticated, match="ran out"):
            await life.read_first(context)


async def test_streams_take_up_places_among_those_who_wait() -> None:
    settings = Settings(store="memory:", listen="127.0.0.1:0", core=CoreOptions(max_waiters=1))
    async with running_broker(settings) as server, calls_to(str(server.address)) as calls:
        async with pushing(calls) as stream:
            await stream.push(job())
            assert await Pushes(calls).ended() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await stream.abandon()

        async def free() -> bool:
            return not server.broker.waiters.parked

        await until(free, "a stream whose client is gone is forgotten")


class Endless:
    """The context of a stream whose client sends without end."""

    def __init__(self) -> None:
        self.read_so_far = 0
        self.gone = asyncio.Event()

    async def read(self) -> bytes:
        await asyncio.sleep(0)
        self.read_so_far += 1
        return b"x"

    async def write(self, _: bytes) -> None:
        await self.gone.wait()

    async def send_initial_metadata(self, _: object) -> None:
        pass

    def time_remaining(self) -> None:
        return None


class Echo(Stream):
    closing_notice = b"closing"

    async def take(self, raw: bytes) -> None:
        self.owe(1, len(raw))
        self.answer(b"y", len(raw))

    def begin(self) -> None:
        pass

    def stop_giving(self) -> None:
        pass

    async def left(self) -> None:
        pass

    async def before_writing(self) -> None:
        pass

    def written(self, last: int) -> None:
        pass


async def test_who_does_not_read_answers_is_read_no_further(server: BrokerServer) -> None:
    context: Any = Endless()
    streams = OpenStreams(server.broker.waiters, lambda: 60 * SECOND)
    serving = asyncio.ensure_future(Echo(context, Scope(), streams.new_life(context)).serve())

    async def halted() -> bool:
        before = context.read_so_far
        for _ in range(100):
            await asyncio.sleep(0)
        return bool(before == context.read_so_far)

    await until(halted, "nothing more is read")
    assert context.read_so_far <= MOST_OWED + 2
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


class Over(Endless):
    """The context of a stream that its client has ended."""

    async def read(self) -> Any:
        return grpc.aio.EOF


async def test_an_answer_for_a_stream_that_is_over_hinders_nobody(server: BrokerServer) -> None:
    """A batch is of several streams, some of which may be gone when it is stored."""
    context: Any = Over()
    streams = OpenStreams(server.broker.waiters, lambda: 60 * SECOND)
    stream = Echo(context, Scope(), streams.new_life(context))
    await stream.serve()
    stream.answer(b"y", 1)


class HalfClosed(Endless):
    """The context of a stream that its client has half-closed, and does not read."""

    async def read(self) -> Any:
        self.read_so_far += 1
        return b"x" if self.read_so_far == 1 else grpc.aio.EOF


@pytest.fixture
async def half_closed(server: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Echo]:
    monkeypatch.setattr(stream_module, "CLOSING_GRACE", 0.05)
    context: Any = HalfClosed()
    streams = OpenStreams(server.broker.waiters, lambda: 60 * SECOND)
    return context, Echo(context, Scope(), streams.new_life(context))


async def test_who_has_half_closed_and_does_not_read_is_ended_in_its_time(
    half_closed: tuple[Any, Echo],
) -> None:
    context, stream = half_closed
    serving = asyncio.ensure_future(stream.serve())
    await until(partial(_has_read, context), "everything is read")
    stream.end(StreamOver("it is its time"))
    async with asyncio.timeout(20):
        with pytest.raises(StreamOver):
            await serving


async def test_who_has_half_closed_and_has_every_answer_by_then_has_ended_well(
    half_closed: tuple[Any, Echo],
) -> None:
    context, stream = half_closed
    serving = asyncio.ensure_future(stream.serve())
    await until(partial(_has_read, context), "everything is read")
    stream.end(StreamOver("it is its time"))
    context.gone.set()
    async with asyncio.timeout(20):
        await serving


async def _has_read(context: Any) -> bool:
    return bool(context.read_so_far == 2)


class Counted(Echo):
    """``last``: the number of the last part that is with gRPC."""

    last = 0

    def written(self, last: int) -> None:
        self.last = last


async def test_what_comes_while_another_message_is_written_is_not_written_with_it(
    server: BrokerServer,
) -> None:
    context: Any = HalfClosed()
    writing = asyncio.Event()

    async def write(_: bytes) -> None:
        writing.set()
        await context.gone.wait()
        context.gone.clear()

    context.write = write
    streams = OpenStreams(server.broker.waiters, lambda: 60 * SECOND)
    stream = Counted(context, Scope(), streams.new_life(context))
    serving = asyncio.ensure_future(stream.serve())
    await writing.wait()
    number = stream.send(b"leases")
    assert (number, stream.last) == (2, 0)
    writing.clear()
    context.gone.set()
    await writing.wait()
    assert stream.last == 1
    context.gone.set()
    await serving
    assert stream.last == 2


async def test_what_was_answered_survives_the_death_of_the_broker() -> None:
    """P1, for pushes that did not wait for each other."""
    with BrokerProcess("file:///jobs") as broker:
        async with calls_to(broker.address) as calls, pushing(calls) as stream:
            sent: dict[int, str] = {}

            async def send() -> None:
                while True:
                    each = job()
                    sent[await stream.send(each)] = each.id

            sending = asyncio.ensure_future(send())
            await stream.until(lambda: len(stream.results) > 200)
            broker.kill()
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)):
                await sending
            assert await stream.ended() is not grpc.StatusCode.OK
            acknowledged = {sent[n] for n, r in stream.results.items() if r.response.results}
        broker.start()
        async with calls_to(broker.address) as calls:
            found: set[str] = set()
            while some := await ready(calls, 1_000):
                found.update(some)
    assert acknowledged <= found <= set(sent.values())


def test_answers_are_what_protobuf_would_have_written() -> None:
    for sequence in (0, 1, 127, 128, 16_383, 16_384, 2**32, 2**64 - 1):
        result = PushResult(job_id=job().id, outcome=CREATED)
        answer = StreamedPushResult(sequence=sequence, response=PushResponse(results=[result]))
        whole = PushStreamResponse(results=[answer]).SerializeToString()
        assert parts.created(sequence, result.job_id) == whole
