"""An Ack comes to the same, whether it is taken from its bytes or read as a message."""

from random import Random
from typing import cast

import pytest
from google.protobuf.message import DecodeError

from tests.fuzz.mutation import ByteMutator, MessageMutator
from tests.service.test_leases_as_bytes import job_id
from tests.support.acting import acting_as
from towline.v1.queue_service_pb2 import Ack, AckRequest, AckResponse, LeaseOutcome, SettleResult
from towline_broker.core.broker import Broker
from towline_broker.core.calls import AckCall
from towline_broker.domain.identity import ANONYMOUS, Identity, Rights
from towline_broker.services.acks import Acks
from towline_broker.services.batches import sift
from towline_broker.services.item_rights import holds_all
from towline_broker.services.limits import Limits
from towline_broker.services.settling import SettleReader
from towline_broker.services.wire import replies

#: Small, so that bounds are met.
LIMITS = Limits(batch=20, result_bytes=300)
READER = SettleReader(LIMITS)
WORKER = Identity("token:worker", Rights.of(work=["q", "r*"]))
IDENTITIES = (ANONYMOUS, WORKER, Identity("token:other", Rights.of(work="*")))


def acks() -> Acks:
    return Acks(cast(Broker, None), LIMITS)


def token(rng: Random) -> str:
    if rng.random() < 0.03:
        return rng.choice(
            ("", "q", "q/x/y", f"q/{job_id(rng)}/g/", f"é/{job_id(rng)}/g", f"x\nq/{job_id(rng)}/g")
        )
    queue = rng.choice(("q", "r", "mail:out", "Q" * 100))
    mark = rng.choice(("", "", WORKER.mark))
    return f"{queue}/{job_id(rng)}/{'g' * 12}{mark}"


def request(rng: Random) -> bytes:
    """Most with good tokens only, as workers send them."""
    sizes = rng.choice(((0,), (0, 1, 100, 127, 128, 300), (0, 301)))
    batch = rng.choice((0, 1, 2, 9, 20, 21))
    some = [Ack(lease_token=token(rng), result=b"r" * rng.choice(sizes)) for _ in range(batch)]
    return AckRequest(acks=some).SerializeToString()


def with_one_changed(rng: Random, mutator: ByteMutator) -> bytes:
    """One of the Acks mutated, in a request that is none the worse."""
    acks = [Ack(lease_token=token(rng), result=b"r" * rng.choice((0, 1, 30))) for _ in range(3)]
    changed = mutator.mutate(acks.pop().SerializeToString())[:127]
    return AckRequest(acks=acks).SerializeToString() + b"\x0a" + bytes((len(changed),)) + changed


@pytest.mark.parametrize("kind", ["good", "bytes", "item", "message"])
def test_an_ack_is_taken_from_its_bytes_only_if_it_is_what_its_message_says(kind: str) -> None:
    rng = Random(f"{kind} 1")
    of_bytes, of_message = ByteMutator(rng), MessageMutator(rng)
    taken = 0
    for _ in range(1_500):
        raw = request(rng)
        if kind == "bytes":
            raw = of_bytes.mutate(raw)
        elif kind == "item":
            raw = with_one_changed(rng, of_bytes)
        elif kind == "message":
            raw = of_message.mutate(raw, AckRequest)
        try:
            with acting_as(rng.choice(IDENTITIES)):
                calls = acks().read(raw).calls
        except DecodeError:
            with pytest.raises(DecodeError):
                AckRequest.FromString(raw)
            continue
        message = AckRequest.FromString(raw)
        if calls is not None:
            taken += 1
            assert 1 <= len(message.acks) <= LIMITS.batch
            assert_same(message, calls)
    assert taken > 10


def assert_same(message: AckRequest, calls: list[AckCall] | object) -> None:
    for identity in IDENTITIES:
        with acting_as(identity):
            read, refused = sift(message.acks, "acks", READER.ack)
        whole = holds_all(identity, [call.ref for call in cast(list[AckCall], calls)])
        assert whole == (not refused)
        if whole:
            assert read == calls


@pytest.mark.parametrize("outcomes", [[1], [1] * 100, [1, 2, 3, 4, 1], [5]])
def test_a_reply_to_settled_leases_is_written_as_protobuf_writes_it(outcomes: list[int]) -> None:
    results = [SettleResult(outcome=LeaseOutcome.ValueType(each)) for each in outcomes]
    assert replies.settled(outcomes) == AckResponse(results=results).SerializeToString()
