"""What /metrics tells: all that Stats does, of a bounded number of queues and types, at little
cost."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client.parser import text_string_to_metric_families

from tests.observability.shown import ANY_PORT, Samples, shown_broker, value
from tests.support.calls import Calls, calls_to
from tests.support.faulty_driver import FaultyDriver
from tests.support.streams import pushing, working
from tests.support.waiting import until
from towline.v1 import admin_service_pb2 as admin
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Failure, Job, Lease, RetryPolicy
from towline_broker.domain.errors import PermissionDenied, StoreUnavailable
from towline_broker.server.configuration.http_settings import HttpSettings
from towline_broker.server.configuration.settings import CoreOptions, Settings
from towline_broker.server.metrics import families, rendering
from towline_broker.server.metrics.families import DEPTHS, OTHERS, TOTALS, Row
from towline_broker.server.metrics.naming import Names
from towline_broker.server.serving import running_broker

SECRET = b"payload-of-the-tests"
WORKER = "worker-of-the-tests"


def settings(**http: Any) -> Settings:
    return Settings(
        store="memory:",
        listen=ANY_PORT,
        http=HttpSettings(listen=ANY_PORT, **({"max_age": 0} | http)),
    )


async def push(calls: Calls, queue: str, type: str, count: int = 1, **fields: Any) -> list[str]:
    jobs = [Job(queue=queue, type=type, payload=SECRET, **fields) for _ in range(count)]
    answer = await calls.queue.Push(pb.PushRequest(jobs=jobs))
    return [result.job_id for result in answer.results]


async def reserve(calls: Calls, queue: str, count: int) -> list[Lease]:
    request = pb.ReserveRequest(
        queues=[pb.QueueChoice(name=queue)], max_jobs=count, worker_id=WORKER
    )
    leases: list[Lease] = list((await calls.queue.Reserve(request)).leases)
    return leases


async def work(calls: Calls) -> list[str]:
    """Something of everything; returns the ids of the jobs."""
    ids = await push(calls, "emails", "SendEmail", 5)
    once = RetryPolicy(max_attempts=1)
    ids += await push(calls, "emails", "Dies", 1, retry=once, priority=9)
    ids += await push(calls, "reports", "Build", 1, delay=Duration(seconds=600))
    dying, *leases = await reserve(calls, "emails", 4)
    await calls.queue.Ack(pb.AckRequest(acks=[pb.Ack(lease_token=leases[0].lease_token)]))
    failure = Failure(type="ValueError", message="no")
    nacks = [
        pb.Nack(lease_token=dying.lease_token, failure=failure),
        pb.Nack(lease_token=leases[1].lease_token, failure=failure),
    ]
    await calls.queue.Nack(pb.NackRequest(nacks=nacks))
    await calls.admin.PauseQueue(admin.PauseQueueRequest(queue="reports"))
    return ids


def totals_of(found: Samples, prefix: str, labels: dict[str, str]) -> dict[str, int]:
    return {
        field: int(value(found, f"towline_{prefix}{field}_total", **labels)) for field in TOTALS
    }


async def test_a_scrape_tells_what_stats_tells() -> None:
    async with shown_broker(settings()) as shown:
        await work(shown.calls)
        stats = await shown.calls.admin.Stats(admin.StatsRequest())
        found = await shown.samples()
    figures = {one.queue: ("jobs_", {"queue": one.queue}, one.figures) for one in stats.queues}
    figures |= {one.type: ("type_jobs_", {"type": one.type}, one.figures) for one in stats.types}
    assert figures.keys() == {"emails", "reports", "SendEmail", "Dies", "Build"}
    for prefix, label, expected in figures.values():
        labels = {"store": "default", **label}
        totals = totals_of(found, prefix, labels)
        assert totals == {field: getattr(expected.totals, field) for field in TOTALS}
        jobs = "towline_queue_jobs" if "queue" in label else "towline_type_jobs"
        for state in DEPTHS:
            told = value(found, jobs, state=state, **labels)
            assert told == getattr(expected.depth, state), (label, state)
    assert value(found, "towline_queue_paused", store="default", queue="reports") == 1
    assert value(found, "towline_queue_paused", store="default", queue="emails") == 0
    age = value(found, "towline_queue_oldest_ready_age_seconds", store="default", queue="emails")
    assert 0 < age < 60
    assert value(found, "towline_workers") == stats.broker.workers == 1
    for kind, count in (("wait", 4), ("processing", 3)):
        assert value(found, f"towline_job_{kind}_seconds_count", queue="emails") == count
        assert (
            value(found, f"towline_job_{kind}_seconds_bucket", queue="emails", le="+Inf") == count
        )
    assert (
        value(found, "towline_store_info", store="default", driver="memory", durability="none") == 1
    )
    assert value(found, "towline_store_up", store="default") == 1


async def test_no_id_and_nothing_of_a_job_is_told() -> None:
    async with shown_broker(settings()) as shown:
        ids = await work(shown.calls)
        text = await shown.scrape()
    for private in (*ids, WORKER, SECRET.decode(), "ValueError"):
        assert private not in text


async def test_calls_are_counted_by_method_and_code_and_refusals_by_reason() -> None:
    one = settings().model_copy(update={"core": CoreOptions(max_queue_depth=2)})
    async with shown_broker(one) as shown:
        await push(shown.calls, "a", "X", 2)
        for queue in ("a", "nul\0"):
            with pytest.raises(grpc.aio.AioRpcError):
                await push(shown.calls, queue, "X")
        await push(shown.calls, "b", "X")
        found = await shown.samples()
        method = "QueueService/Push"
        for code, count in (("OK", 2), ("RESOURCE_EXHAUSTED", 1), ("INVALID_ARGUMENT", 1)):
            assert value(found, "towline_rpcs_total", method=method, code=code) == count
        assert value(found, "towline_rpc_failures_total", reason="QUEUE_FULL") == 1
        assert value(found, "towline_rpc_failures_total", reason="INVALID_FIELD") == 1
        # From 0 on: the first one is seen as an increase.
        assert value(found, "towline_rpc_failures_total", reason="BROKER_BUSY") == 0
        assert value(found, "towline_rpc_duration_seconds_count", method=method) == 4
        assert value(found, "towline_rpcs_running", method=method) == 0


async def test_answers_on_streams_are_counted_by_code_and_refusals_by_reason() -> None:
    one = settings().model_copy(update={"core": CoreOptions(max_queue_depth=2)})
    async with shown_broker(one) as shown:
        async with pushing(shown.calls) as pushes:
            for queue in ("a", "a", "a", "nul\0"):
                await pushes.push(Job(queue=queue, type="X"))
            await pushes.finish()
        async with working(shown.calls, "a", credits=1) as works:
            await works.ack(*await works.leased(1))
            await works.ask(credits=-1)
            await works.finish()
        found = await shown.samples()
    answers = {
        (method, code): value(found, "towline_stream_answers_total", method=method, code=code)
        for method, code in (
            *(("QueueService/PushStream", code) for code in ("OK", "INVALID_ARGUMENT")),
            ("QueueService/PushStream", "RESOURCE_EXHAUSTED"),
            *(("QueueService/Work", code) for code in ("OK", "INVALID_ARGUMENT")),
        )
    }
    assert list(answers.values()) == [2, 1, 1, 2, 1], "the opening of Work is a message, too"
    assert value(found, "towline_rpc_failures_total", reason="QUEUE_FULL") == 1
    assert value(found, "towline_rpc_failures_total", reason="INVALID_FIELD") == 2


async def test_who_is_refused_is_counted_and_not_named() -> None:
    async with shown_broker(settings()) as shown:
        refused = PermissionDenied("may not push to emails", "push", "emails")
        shown.server.access.refusals.note(
            "/towline.v1.QueueService/Push", "web-shop", refused, "ipv4:192.0.2.1", times=2
        )
        text = await shown.scrape()
    method = "QueueService/Push"
    told = f'towline_rights_refused_total{{code="PERMISSION_DENIED",method="{method}"}} 2.0'
    assert told in text
    assert "web-shop" not in text
    assert "192.0.2.1" not in text


async def test_parked_calls_are_told() -> None:
    async with shown_broker(settings()) as shown:
        request = pb.ReserveRequest(
            queues=[pb.QueueChoice(name="q")], max_jobs=1, wait=Duration(seconds=30)
        )
        parked = asyncio.ensure_future(shown.calls.queue.Reserve(request))

        async def told() -> bool:
            found = await shown.samples()
            parked = value(found, "towline_parked_calls")
            method = ("method", "QueueService/Reserve")
            return (parked, found.get(("towline_rpcs_running", frozenset({method})))) == (1, 1)

        await until(told, "a Reserve is told to be parked")
        parked.cancel()


async def test_queues_and_types_beyond_a_number_are_counted_together() -> None:
    async with shown_broker(settings(queues=2, types=1)) as shown:
        for queue, type in (("a", "X"), ("b", "X"), ("c", "Y"), ("d", "Z")):
            await push(shown.calls, queue, type, 3)
            for lease in await reserve(shown.calls, queue, 1):
                await shown.calls.queue.Ack(
                    pb.AckRequest(acks=[pb.Ack(lease_token=lease.lease_token)])
                )
        found = await shown.samples()
    pushed = {
        dict(labels)["queue"]: count
        for (name, labels), count in found.items()
        if name == "towline_jobs_pushed_total"
    }
    assert pushed == {"a": 3, "b": 3, OTHERS: 6}
    assert value(found, "towline_queue_jobs", store="default", queue=OTHERS, state="ready") == 4
    assert value(found, "towline_type_jobs_pushed_total", store="default", type="X") == 6
    assert value(found, "towline_type_jobs_pushed_total", store="default", type=OTHERS) == 6
    assert value(found, "towline_job_wait_seconds_count", queue=OTHERS) == 2
    # Of several queues together it cannot be said whether they are paused.
    assert (
        "towline_queue_paused",
        frozenset({("store", "default"), ("queue", OTHERS)}),
    ) not in found


def test_a_name_that_was_told_stays() -> None:
    names = Names(2)
    names.meet(["m", "z"])
    names.meet(["a", "m"])
    assert [names.label(name) for name in ("a", "m", "z")] == [OTHERS, "m", "z"]


class Counting(FaultyDriver):
    """Counts how often it was asked for its figures."""

    asked = 0

    async def counts(self) -> Any:
        self.asked += 1
        return await self._inner.counts()


async def test_a_store_is_not_asked_more_often_than_it_should_be() -> None:
    store = Counting()
    async with shown_broker(settings(max_age=60), drivers={"default": store.driver}) as shown:
        await asyncio.gather(*(shown.scrape() for _ in range(20)))
        await shown.scrape()
        assert store.asked == 1
        age = value(await shown.samples(), "towline_store_figures_age_seconds", store="default")
        assert 0 <= age < 60


async def test_a_store_that_is_down_is_told_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("towline_broker.server.metrics.exposition.PATIENCE", 0.2)
    monkeypatch.setattr("towline_broker.server.http.one_process.PROBE_PATIENCE", 0.2)
    fast = FaultyDriver()
    both = settings().model_copy(update={"stores": {"fast": "memory:"}})
    async with shown_broker(both, drivers={"fast": fast.driver}) as shown:
        await push(shown.calls, "q", "X")
        fast.errors = dict.fromkeys(("queues", "next_due"), StoreUnavailable("gone"))
        found = await shown.samples()
        assert value(found, "towline_store_up", store="fast") == 0
        assert value(found, "towline_store_up", store="default") == 1
        assert value(found, "towline_jobs_pushed_total", store="default", queue="q") == 1
        fast.errors = {}
        assert value(await shown.samples(), "towline_store_up", store="fast") == 1
        fast.hold("counts")  # it takes the question, and is not heard of again
        assert value(await shown.samples(), "towline_store_up", store="fast") == 0
        fast.let_go("counts")


async def test_a_broker_that_has_stopped_asks_its_stores_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with shown_broker(settings()) as shown:
        await push(shown.calls, "q", "X")
        await shown.server.stop()
        assert value(await shown.samples(), "towline_store_up", store="default") == 0
        answer = await shown.web.get("/readyz")
        assert answer.status_code == 503
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


async def test_others_have_their_turn_while_a_scrape_is_written() -> None:
    queues = 3_000
    rows = (Row(("default", f"queue-{number}", "ready"), number) for number in range(queues))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    text = await rendering.render([(families.QUEUE_JOBS, rows)])
    counting.cancel()
    lines = text.decode().splitlines()
    assert len(lines) == queues + 2  # HELP and TYPE once
    assert turns >= queues // rendering.PIECE - 1  # one between any two pieces


async def test_a_broker_that_shows_nothing_measures_nothing() -> None:
    quiet = Settings(store="memory:", listen=ANY_PORT, http=HttpSettings(listen="off"))
    async with running_broker(quiet) as server, calls_to(str(server.address)) as calls:
        await push(calls, "q", "X")
        assert server.calls.methods == {}


def test_every_family_is_named_by_the_customs() -> None:
    names = [family.name for family in families.ALL]
    assert len(set(names)) == len(names)
    for family in families.ALL:
        assert family.name.startswith("towline_")
        assert family.name.endswith("_total") == (family.kind is families.Kind.COUNTER)
        assert not {"job_id", "worker", "worker_id", "peer"} & set(family.labels)
        assert family.help.endswith(".")


async def test_no_family_comes_twice_and_each_is_declared() -> None:
    async with shown_broker(settings()) as shown:
        await work(shown.calls)
        async with pushing(shown.calls) as pushes:
            await pushes.push(Job(queue="emails", type="SendEmail"))
        text = await shown.scrape()
    found = [family.name for family in text_string_to_metric_families(text)]
    assert len(set(found)) == len(found)
    declared = {family.name.removesuffix("_total") for family in families.ALL}
    missing = declared - set(found)
    # Of stores in files, where rights are asked for, and with TLS.
    assert missing == {
        "towline_store_disk_free_bytes",
        "towline_rights_refused",
        "towline_certificate_expires_timestamp_seconds",
    }
    assert {name for name in found if name.startswith("towline_")} <= declared
