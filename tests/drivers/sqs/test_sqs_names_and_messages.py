"""Urls, names of queues, texts of messages: what goes in comes out, what cannot is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline_broker.domain.errors import NotSupported, StoreRefused
from towline_broker.domain.jobs import DeadReason, Failure
from towline_broker.domain.retry import DelayList, RetryPolicy
from towline_broker.drivers.registry import create_driver
from towline_broker.drivers.sqs.messages import (
    MOST_BYTES,
    MOST_ENVELOPE,
    Death,
    JobMessage,
)
from towline_broker.drivers.sqs.names import MOST_LETTERS, from_sqs, to_sqs
from towline_broker.drivers.sqs.url import Options, read_options

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,30}", fullmatch=True)


def test_a_url_says_region_endpoint_prefix_and_kind() -> None:
    assert read_options("sqs://") == Options()
    url = "sqs:///?region=eu-west-1&endpoint=http://127.0.0.1:5000&prefix=jobs_&fifo=true"
    assert read_options(url) == Options("eu-west-1", "http://127.0.0.1:5000", "jobs_", True)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqs://AKIA:secret@eu-west-1", "names no place"),
        ("sqs:///queue", "names no place"),
        ("sqs:///?region=eu west", "region is not the name of one"),
        ("sqs:///?endpoint=127.0.0.1", "endpoint is not http(s)://host:port"),
        ("sqs:///?endpoint=http://me:secret@host", "endpoint is not http(s)://host:port"),
        ("sqs:///?prefix=a.b", "prefix is not 1 to 40 of"),
        ("sqs:///?fifo=yes", "expected true or false"),
        ("sqs:///?queue=x", "is no option of this store"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_the_way_out(url: str, told: str) -> None:
    with pytest.raises(StoreRefused) as refused:
        create_driver(url)
    assert told in str(refused.value)
    assert "secret" not in str(refused.value)


@given(NAMES, st.booleans(), st.booleans())
def test_a_queue_is_found_by_the_name_that_sqs_knows(name: str, dead: bool, fifo: bool) -> None:
    options = Options(prefix="t-", fifo=fifo)
    try:
        known = to_sqs(name, options, dead=dead)
    except NotSupported:
        return  # too long; see below
    assert len(known) <= MOST_LETTERS
    assert set(known.removesuffix(".fifo")) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    )
    assert from_sqs(known, options) == (name, dead)
    assert from_sqs(known, Options(prefix="t-", fifo=not fifo)) is None


@given(st.sets(NAMES, min_size=2))
def test_two_queues_never_share_a_name(names: set[str]) -> None:
    options = Options(prefix="")
    fitting = [name for name in names if len(name) < 20]
    known = {to_sqs(name, options, dead=dead) for name in fitting for dead in (False, True)}
    assert len(known) == 2 * len(fitting)


@pytest.mark.parametrize("name", ["other-q", "t-a.b", "t-a_b", "t-", "t-_dead", "t-a_", "t-q.fifo"])
def test_queues_of_others_are_left_alone(name: str) -> None:
    assert from_sqs(name, Options(prefix="t-")) is None


def test_a_name_that_sqs_has_no_room_for_is_refused_with_its_length() -> None:
    with pytest.raises(NotSupported, match="allows 80 letters, and this one would need 141"):
        to_sqs("q" * 128, Options())


FAILURES = st.builds(Failure, st.text(), st.text(), st.text(), st.integers(0, 2**60))


@given(
    envelope=st.binary(),
    failure=st.none() | FAILURES,
    death=st.none()
    | st.builds(Death, st.sampled_from(DeadReason), st.integers(0), st.integers(1, 1000)),
    retry=st.sampled_from([RetryPolicy(), RetryPolicy(7, DelayList((0, 5)), 0.0)]),
)
def test_a_message_holds_all_of_its_job(
    envelope: bytes, failure: Failure | None, death: Death | None, retry: RetryPolicy
) -> None:
    job = JobMessage("id", "T", envelope, retry, 1, 2, failure, death)
    text = job.to_text()
    assert text.isascii()
    assert text.isprintable()
    assert JobMessage.from_text(text) == job


def test_p11_the_largest_message_fits() -> None:
    policy = RetryPolicy(1000, DelayList((366 * 86_400 * 10**6,) * 100), 0.123456789)
    # Of each letter, JSON makes six.
    failure = Failure("\0" * 256, "\0" * 4096, "\0" * 32768, 2**60)
    job = JobMessage("x" * 36, "T" * 128, b"\xff" * MOST_ENVELOPE, policy, 2**60, 2**60, failure)
    text = job.buried(Death(DeadReason.REJECTED, 2**60, 1000), None).to_text()
    assert len(text) <= MOST_BYTES
    read = JobMessage.from_text(text)
    assert read is not None
    assert (read.envelope, read.retry) == (job.envelope, policy)
    assert read.failure == Failure(failure.type, failure.message, "", failure.at)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "hello",
        json.dumps({"towline": 2}),
        json.dumps({"towline": 1, "id": "x"}),
        JobMessage("id", "T", b"x", RetryPolicy(), 1, 2).to_text().replace("eA==", "e!=="),
    ],
)
def test_a_message_of_others_is_told_from_ours(text: str) -> None:
    assert JobMessage.from_text(text) is None
