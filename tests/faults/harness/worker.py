"""A worker that goes on through every failure, and writes down what it saw."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias
from uuid import UUID

from google.protobuf.duration_pb2 import Duration

from tests.faults.harness import answers
from tests.faults.harness.client import Client
from tests.faults.harness.diary import Diary
from tests.faults.harness.habits import TYPE, Habits, payload_of
from tests.faults.harness.history import Beat, Delivered, Settled
from tests.faults.harness.link import Link
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Lease

#: How long a Reserve waits for jobs, in seconds.
WAIT = 0.5
#: A release asks for so long a pause, in seconds.
RELEASE_DELAY = 0.1
#: A heartbeat asks for so many terms: more than is left in any case, so that it is seen to count.
PROLONGED = 1.5
#: A job and a token that no broker knows.
NO_LEASE = ("", "no-token")
#: How many old leases are kept to be tried again.
OLD = 50

_SettleResponse: TypeAlias = pb.AckResponse | pb.NackResponse


class Worker(Client):
    def __init__(self, link: Link, diary: Diary, habits: Habits, name: str, seed: int) -> None:
        super().__init__(link, diary, habits, seed)
        self._name = name
        self._old: deque[tuple[Lease, str]] = deque(maxlen=OLD)

    def run(self, goes_on: Callable[[], bool], misbehaves: Callable[[], bool]) -> None:
        """``misbehaves``: whether it may still fail, give back and abandon jobs."""
        while goes_on():
            leases = self._reserve(goes_on)
            if not leases:
                continue
            time.sleep(self._habits.handling)
            if self._happens(self._habits.heartbeat):
                self._heartbeat(leases)
            for action, its in self._shared_out(leases, misbehaves()).items():
                self._settle(action, its, goes_on)
            if self._happens(self._habits.stale):
                self._try_old()

    def _happens(self, share: float) -> bool:
        return self._rng.random() < share

    def _reserve(self, goes_on: Callable[[], bool]) -> Sequence[Lease]:
        habits = self._habits
        request = pb.ReserveRequest(queues=[pb.QueueChoice(name=habits.queue)])
        request.max_jobs = habits.reserve_batch
        request.worker_id = self._name
        request.wait.FromMilliseconds(round(WAIT * 1000))
        request.lease.FromMilliseconds(round(habits.lease * 1000))
        named = self._happens(habits.named_reserves)
        if named:
            request.request_id = str(UUID(int=self._rng.getrandbits(128)))
        while goes_on():
            answer = self._diary.call(
                "Reserve",
                (),
                lambda: self._link.queue.Reserve(request, timeout=habits.call_timeout),
                lambda answer: [_delivered(lease, habits) for lease in answer.leases],
                request.request_id,
            )
            if answer is not None:
                return answer.leases
            self._link.pause()
            if not named:
                break
        return ()

    def _shared_out(self, leases: Sequence[Lease], misbehaves: bool) -> dict[str, list[Lease]]:
        habits = self._habits
        shares = (habits.retry, habits.reject, habits.release, habits.abandon)
        actions = ("retry", "reject", "release", "abandon", "ack")
        weights = (*shares, 1 - sum(shares)) if misbehaves else (0, 0, 0, 0, 1)
        found: dict[str, list[Lease]] = {}
        for lease in leases:
            [action] = self._rng.choices(actions, weights)
            found.setdefault(action, []).append(lease)
            self._old.append((lease, action))
        return found

    def _settle(self, action: str, leases: list[Lease], goes_on: Callable[[], bool]) -> None:
        """Until it is answered, and now and then once more. A worker that is to stop leaves what is
        not answered: its leases run out."""
        if action == "abandon":
            return
        while not self._settled(action, leases) and goes_on():
            self._link.pause()
        if self._happens(self._habits.repeated):
            self._settled(action, leases)

    def _settled(self, action: str, leases: Sequence[Lease]) -> bool:
        seconds = self._habits.call_timeout
        delay = RELEASE_DELAY if action == "release" else None
        tokens = [(lease.job.id, lease.lease_token) for lease in leases]
        asked = [Settled(*each, action, delay) for each in tokens]
        sent = self._clumsily(tokens)

        def told(answer: _SettleResponse) -> list[Settled]:
            return [
                Settled(*each, action, delay, answers.LEASES[result.outcome])
                for each, result in zip(sent, answer.results, strict=True)
            ]

        if action == "ack":
            acks = pb.AckRequest(acks=[pb.Ack(lease_token=token) for _, token in sent])
            answer = self._diary.call(
                "Ack", asked, lambda: self._link.queue.Ack(acks, timeout=seconds), told
            )
            return answer is not None
        nacks = pb.NackRequest(nacks=[_nack(action, token) for _, token in sent])
        refusal = self._diary.call(
            "Nack", asked, lambda: self._link.queue.Nack(nacks, timeout=seconds), told
        )
        return refusal is not None

    def _clumsily(self, tokens: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Now and then with one that stands twice, and one that is no lease."""
        if not self._happens(self._habits.clumsy):
            return tokens
        more = [self._rng.choice(tokens), NO_LEASE]
        return self._rng.sample([*tokens, *more], len(tokens) + len(more))

    def _try_old(self) -> None:
        """Settles again, as before or in another way, what may have been settled, or lost."""
        lease, before = self._rng.choice(self._old)
        other = self._rng.choice(("ack", "retry", "release"))
        same = before != "abandon" and self._happens(0.5)
        self._settled(before if same else other, [lease])

    def _heartbeat(self, leases: Sequence[Lease]) -> None:
        request = pb.HeartbeatRequest(worker_id=self._name)
        term = PROLONGED * self._habits.lease
        for lease in leases:
            beat = request.leases.add(lease_token=lease.lease_token)
            beat.extend.FromMilliseconds(round(term * 1000))
        tokens = [(lease.job.id, lease.lease_token) for lease in leases]

        def told(answer: pb.HeartbeatResponse) -> list[Beat]:
            return [
                Beat(
                    *each,
                    answers.LEASES[result.outcome],
                    _seconds(result.lease_remaining),
                    term,
                )
                for each, result in zip(tokens, answer.results, strict=True)
            ]

        self._diary.call(
            "Heartbeat",
            [Beat(*each) for each in tokens],
            lambda: self._link.queue.Heartbeat(request, timeout=self._habits.call_timeout),
            told,
        )


def _delivered(lease: Lease, habits: Habits) -> Delivered:
    job, remaining = lease.job, _seconds(lease.lease_remaining)
    pushed = (habits.queue, TYPE, payload_of(job.id, habits))
    whole = (job.queue, job.type, job.payload) == pushed
    return Delivered(job.id, lease.attempt, lease.lease_token, remaining, whole, habits.lease)


def _seconds(duration: Duration) -> float:
    return duration.ToMicroseconds() / 1e6


def _nack(action: str, token: str) -> pb.Nack:
    nack = pb.Nack(lease_token=token)
    match action:
        case "release":
            nack.release.delay.FromMilliseconds(round(RELEASE_DELAY * 1000))
        case "reject":
            nack.dead_letter = True
    nack.failure.type, nack.failure.message = "Planned", action
    return nack
