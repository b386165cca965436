"""What is seen of calls that were refused: counts, and lines that hold no secret."""

import logging

import grpc
import pytest

from tests.access.callers import bearer
from tests.access.senders import Sender, Tokens
from tests.support.calls import Calls, failure_of
from towline.v1.admin_service_pb2 import PurgeQueueRequest
from towline.v1.job_pb2 import Job
from towline.v1.queue_service_pb2 import PushRequest
from towline_broker.domain.errors import PermissionDenied, Unauthenticated
from towline_broker.interceptors import in_measure, refusals
from towline_broker.interceptors.refusals import Refusals, Refused
from towline_broker.server.identity.tokens_file import new_token
from towline_broker.server.serving import BrokerServer

PUSH = "/towline.v1.QueueService/Push"


async def test_refusals_are_counted_and_told_without_the_token(
    calls: Calls, tokens: Tokens, server: BrokerServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good, unknown = tokens.make("mailer", push=["emails"]), new_token()
    bill = Job(queue="bills", type="T", payload=b"for your eyes only")
    for _ in range(3):
        await failure_of(calls.queue.Push(PushRequest(jobs=[bill]), metadata=bearer(unknown)))
        await failure_of(Sender(calls, good).Push(PushRequest(jobs=[bill])))
    jobs = [bill, bill, Job(queue="emails", type="T")]
    await Sender(calls, good).Push(PushRequest(jobs=jobs, allow_partial=True))
    assert server.access.refusals.counts == {
        Refused(PUSH, "unknown", "UNAUTHENTICATED"): 3,
        Refused(PUSH, "token:mailer", "PERMISSION_DENIED"): 5,
    }
    told = [record for record in caplog.records if record.message.startswith("refused")]
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    assert told[0].message.startswith(f"refused {PUSH} from unknown at ipv4:127.0.0.1:")
    assert "token:mailer lacks the right push for queue 'bills'" in told[1].message
    fields = ("event", "method", "caller", "code", "reason", "right", "queue", "passed_over")
    assert [getattr(told[1], name) for name in fields] == [
        *("refused", PUSH, "token:mailer", "PERMISSION_DENIED", "PERMISSION_DENIED"),
        *("push", "bills", 0),
    ]
    assert vars(told[0])["caller"] == "unknown"
    assert vars(told[0])["peer"].startswith("ipv4:127.0.0.1:")
    for secret in (good, unknown, good[4:], unknown[4:], "eyes only"):
        assert secret not in caplog.text


async def test_nobody_fills_the_log_with_calls_that_are_refused(
    calls: Calls, tokens: Tokens, server: BrokerServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker = bearer(tokens.make("worker", work=["emails"]))
    for _ in range(20):
        await failure_of(calls.admin.PurgeQueue(PurgeQueueRequest(queue="emails")))
        for queue in ("emails", "no name"):
            request = PurgeQueueRequest(queue=queue)
            await failure_of(calls.admin.PurgeQueue(request, metadata=worker))
    told = [record.message for record in caplog.records if record.name == "towline.access"]
    assert len(told) == 2
    assert all(message.startswith("refused") for message in told)


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ((), "send a token as 'authorization: Bearer ...'"),
        ((("authorization", "Basic dTpw"),), "is no bearer token"),
        ((("authorization", "Bearer"),), "is no bearer token"),
        ((("authorization", "Bearer  "),), "is no bearer token"),
        (bearer("a") * 2, "more than one 'authorization'"),
        (bearer("eyJ.eyJ.x"), "none of this broker's"),
    ],
)
async def test_a_call_without_a_good_token_is_told_the_way_out(
    calls: Calls, metadata: tuple[tuple[str, str], ...], said: str
) -> None:
    failure = await failure_of(calls.queue.Push(PushRequest(), metadata=metadata))
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED
    assert said in failure.message


def test_lines_are_written_in_measure(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    heard = Refusals(lambda: now)
    for second in range(25):
        now = float(second)
        for _ in range(100):
            heard.note(PUSH, "", Unauthenticated("no"), "peer")
        heard.note("/other", "", Unauthenticated("no"), "peer")
    said = [record.message for record in caplog.records if PUSH in record.message]
    assert len(said) == 3
    assert said[1].endswith("(and 999 more since the last such line)")
    assert heard.counts[Refused(PUSH, "unknown", "UNAUTHENTICATED")] == 2_500
    assert len(caplog.records) == 6


def test_what_is_kept_of_refusals_is_bounded() -> None:
    heard = Refusals()
    logging.getLogger("towline.access").disabled = True
    try:
        for number in range(3_000):
            heard.note(PUSH, f"jwt:{number}", PermissionDenied("no"), "peer")
    finally:
        logging.getLogger("towline.access").disabled = False
    assert len(heard.counts) == refusals.MOST_COUNTED + 1
    assert sum(heard.counts.values()) == 3_000
    assert heard.counts[Refused(PUSH, "others", "PERMISSION_DENIED")] == 2_000
    assert len(heard._lines) == in_measure.MOST_REMEMBERED
