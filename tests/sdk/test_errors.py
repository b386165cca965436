"""A failed call becomes the exception that says what it means, with all the broker told."""

import copy
import socket
from typing import Any

import grpc
import pytest

from tests.sdk.scripted_broker import Failure, ScriptedBroker, invalid
from towline import (
    BatchFailed,
    BrokerError,
    BrokerUnavailable,
    CallFailed,
    Client,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    InvalidArgument,
    JobCancelled,
    JobFailed,
    NotFound,
    NotSupported,
    PermissionDenied,
    QueueFull,
    Reject,
    Release,
    ResourceExhausted,
    ResultTimeout,
    Retry,
    TowlineError,
    Unauthenticated,
    Violation,
    errors,
)
from towline.errors import from_item_error, from_rpc_error
from towline.v1 import errors_pb2
from towline.worker.errors import JobTimeout, NotSettled

Code = grpc.StatusCode


def info(reason: str, domain: str = "towline") -> errors_pb2.ErrorInfo:
    return errors_pb2.ErrorInfo(reason=reason, domain=domain)


def retry_after(seconds: int) -> errors_pb2.RetryInfo:
    message = errors_pb2.RetryInfo()
    message.retry_delay.seconds = seconds
    return message


def failure_of(broker: ScriptedBroker, client: Client, failure: Failure) -> CallFailed:
    """What a call that is not repeated raises."""
    broker.failures["Push"] = [failure] * 5
    with pytest.raises(CallFailed) as caught:
        client.dispatch("Mail")
    return caught.value


def test_all_of_them_stand_under_one_root() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, TowlineError), name


def test_invalid_argument_names_every_field(broker: ScriptedBroker, client: Client) -> None:
    error = failure_of(
        broker, client, invalid(("jobs[0].queue", "too long"), ("jobs[0].priority", "too high"))
    )
    assert isinstance(error, InvalidArgument)
    assert error.violations == (Violation("queue", "too long"), Violation("priority", "too high"))
    assert str(error) == "queue: too long; priority: too high"
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_FIELD")


def test_a_full_queue_tells_what_is_full_and_when_to_come_again(
    broker: ScriptedBroker, client: Client
) -> None:
    quota = errors_pb2.QuotaFailure()
    quota.violations.add(subject="queue:emails", description="1000 jobs")
    error = failure_of(
        broker,
        client,
        Failure(Code.RESOURCE_EXHAUSTED, "full", info("QUEUE_FULL"), quota, retry_after(3)),
    )
    assert isinstance(error, QueueFull)
    assert (error.retry_after, error.subjects, str(error)) == (3.0, ("queue:emails",), "full")


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(Code.RESOURCE_EXHAUSTED, "m", info("DISK_FULL")), ResourceExhausted),
        (Failure(Code.NOT_FOUND, "m", info("JOB_NOT_FOUND")), NotFound),
        (Failure(Code.PERMISSION_DENIED, "m", info("PERMISSION_DENIED")), PermissionDenied),
        (Failure(Code.UNAUTHENTICATED, "m", info("UNAUTHENTICATED")), Unauthenticated),
        (Failure(Code.DEADLINE_EXCEEDED, "m"), DeadlineExceeded),
        (Failure(Code.INTERNAL, "m", info("INTERNAL")), BrokerError),
        (Failure(Code.UNKNOWN, "m"), BrokerError),
        (Failure(Code.UNIMPLEMENTED, "m"), BrokerError),
        (Failure(Code.UNIMPLEMENTED, "m", info("STORE_CANNOT")), NotSupported),
        (Failure(Code.INVALID_ARGUMENT, "m"), InvalidArgument),
    ],
)
def test_every_code_has_its_exception(
    failure: Failure, kind: type[CallFailed], broker: ScriptedBroker, client: Client
) -> None:
    error = failure_of(broker, client, failure)
    assert type(error) is kind
    assert str(error) == "m"
    assert error.code == failure.code.name


def test_an_unavailable_broker_says_when_to_come_again(
    broker: ScriptedBroker, client: Client
) -> None:
    draining = Failure(Code.UNAVAILABLE, "draining", info("DRAINING"), retry_after(2))
    error = failure_of(broker, client, draining)
    assert isinstance(error, BrokerUnavailable)
    assert (error.code, error.reason, error.retry_after) == ("UNAVAILABLE", "DRAINING", 2.0)
    assert str(error) == "draining"


def test_a_reason_of_another_domain_is_not_taken_for_ours(
    broker: ScriptedBroker, client: Client
) -> None:
    failure = Failure(Code.RESOURCE_EXHAUSTED, "m", info("QUEUE_FULL", domain="proxy"))
    error = failure_of(broker, client, failure)
    assert type(error) is ResourceExhausted
    assert error.reason == ""


def test_where_nothing_listens_the_address_is_named() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: connecting is refused
        address = "{}:{}".format(*held.getsockname())
        with (
            Client(address, call_timeout=20) as client,
            pytest.raises(BrokerUnavailable, match=f"no broker can be reached at {address}: "),
        ):
            client.dispatch("Mail")


def test_a_call_ends_with_its_deadline(broker: ScriptedBroker, client: Client) -> None:
    client.dispatch("Mail")  # so that it is connected
    broker.hold.clear()
    with pytest.raises(
        DeadlineExceeded, match=r"no answer in time from the broker at 127\.0\.0\.1:"
    ):
        client.dispatch("Mail", call_timeout=0.2)
    broker.hold.set()


def test_a_deadline_without_end_is_a_long_one(broker: ScriptedBroker) -> None:
    with Client(broker.address, call_timeout=float("inf")) as client:
        client.dispatch("Mail")
        client.dispatch("Mail", call_timeout=1e300)


def test_a_closed_client_says_so(broker: ScriptedBroker) -> None:
    client = Client(broker.address)
    client.dispatch("Mail")
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.dispatch("Mail")


class Foreign(grpc.RpcError):
    """As raised by some interceptor: without code and metadata."""


class Garbled(grpc.RpcError):
    def code(self) -> Any:
        return Code.NOT_FOUND

    def details(self) -> str | None:
        return None

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", b"\xff\xff"), ("x", "y"))


def test_an_error_that_says_little_still_is_one_of_ours() -> None:
    foreign = from_rpc_error(Foreign("odd"))
    assert type(foreign) is BrokerError
    assert str(foreign) == "odd"
    garbled = from_rpc_error(Garbled())
    assert type(garbled) is NotFound
    assert str(garbled) == "the call failed with NOT_FOUND"


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        (
            errors_pb2.ItemError(code=3, reason="INVALID_FIELD", field="jobs[2].type", message="m"),
            InvalidArgument,
            "jobs[2].type: m",
        ),
        (errors_pb2.ItemError(code=3, reason="INVALID_FIELD", message="m"), InvalidArgument, "m"),
        (errors_pb2.ItemError(code=8, reason="QUEUE_FULL", message="m"), QueueFull, "m"),
        (errors_pb2.ItemError(code=99, message="m"), BrokerError, "m"),
    ],
)
def test_the_error_of_an_item_has_the_same_meaning(
    item: errors_pb2.ItemError, kind: type[TowlineError], text: str
) -> None:
    error = from_item_error(item)
    assert type(error) is kind
    assert str(error) == text


def test_a_failed_job_carries_its_failure_and_the_trace_of_the_worker() -> None:
    error = JobFailed(
        "1", dead_reason="REJECTED", failure_type="ValueError", failure_message="no", trace="at x"
    )
    assert str(error) == "job 1 is dead (REJECTED): ValueError: no"
    assert error.__notes__ == ["In the worker:\nat x"]
    assert str(JobFailed("1")) == "job 1 is dead"


@pytest.mark.parametrize("wrong", [0, -1, True, "10", float("nan")])
def test_an_impossible_deadline_is_refused(wrong: Any, client: Client) -> None:
    with pytest.raises(ConfigurationError, match=r"^call_timeout: expected seconds > 0"):
        client.get("x", call_timeout=wrong)
    with pytest.raises(ConfigurationError, match=r"^call_timeout: expected seconds > 0"):
        Client("127.0.0.1:1", call_timeout=wrong)


@pytest.mark.parametrize(
    "error",
    [
        BatchFailed({0: "1"}, {1: QueueFull("full", retry_after=2, subjects=("queue:a",))}),
        ClientClosed(),
        InvalidArgument.of((Violation("queue", "is empty"),), "INVALID_FIELD"),
        JobCancelled("1"),
        JobFailed("1", dead_reason="REJECTED", failure_type="E", failure_message="no", trace="x"),
        JobTimeout(3),
        NotSettled("1", "why"),
        Reject("bad data"),
        Release(after=2, reason="later"),
        ResultTimeout("1", 0.5, "READY"),
        Retry(after=3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_goes_to_another_process_as_it_is(error: Exception) -> None:
    again = copy.copy(error)  # asks an object for its parts as multiprocessing does
    assert again is not error
    assert type(again) is type(error)
    assert (str(again), vars(again)) == (str(error), vars(error))
