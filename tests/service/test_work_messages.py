"""A message of a Work stream comes to the same, whether its acks are taken from their bytes or read
as messages."""

from random import Random

import pytest

from tests.fuzz.mutation import ByteMutator, MessageMutator
from tests.service.test_acks_as_bytes import LIMITS, assert_same, request
from towline.v1.queue_service_pb2 import (
    AckRequest,
    LeaseHeartbeat,
    Nack,
    WorkOpening,
    WorkRequest,
)
from towline_broker.domain.errors import InvalidField
from towline_broker.services.streams.work_reading import read_acks, read_request


def message(rng: Random) -> bytes:
    """Most do nothing but ack."""
    about: dict[str, object] = {"acks": AckRequest.FromString(request(rng)).acks}
    others = {
        "open": WorkOpening(worker_id="w") if rng.random() < 0.5 else WorkOpening(),
        "nacks": [Nack(lease_token="t")],
        "heartbeats": [LeaseHeartbeat()],
    }
    about |= {name: each for name, each in others.items() if rng.random() < 0.07}
    return WorkRequest(
        sequence=rng.choice((0, 1, 2**63)),
        credits=rng.choice((0, 5, -1, 2**31 - 1)),
        withdraw=rng.random() < 0.1,
        **about,  # type: ignore[arg-type]  # by their names
    ).SerializeToString()


@pytest.mark.parametrize("kind", ["good", "bytes", "message"])
def test_a_message_says_the_same_as_when_it_is_read_as_a_whole(kind: str) -> None:
    rng = Random(f"{kind} 7")
    of_bytes, of_message = ByteMutator(rng), MessageMutator(rng)
    taken = 0
    for _ in range(1_500):
        raw = message(rng)
        if kind == "bytes":
            raw = of_bytes.mutate(raw)
        elif kind == "message":
            raw = of_message.mutate(raw, WorkRequest)
        try:
            read, calls = read_acks(raw, LIMITS)
        except InvalidField:
            with pytest.raises(InvalidField):
                read_request(raw)
            continue
        whole = read_request(raw)
        for name in ("sequence", "credits", "withdraw"):
            assert getattr(read, name) == getattr(whole, name)
        for name in ("acks", "nacks", "heartbeats"):
            assert len(getattr(read, name)) == len(getattr(whole, name))
        assert read.HasField("open") == whole.HasField("open")
        if calls is not None:
            taken += 1
            assert whole.acks
            assert not whole.nacks
            assert not whole.heartbeats
            assert not whole.HasField("open")
            assert_same(AckRequest(acks=whole.acks), calls)
    assert taken > 10
