"""Histories of an honest broker, over a network that delays and loses what is sent.

Whatever happens here, no promise is broken: a checker that blames such a history is wrong.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tests.faults.harness.history import (
    Beat,
    Call,
    Cancelled,
    Delivered,
    Discarded,
    History,
    Item,
    Outcome,
    Pushed,
    Requeued,
    Settled,
)
from tests.faults.harness.honest_broker import LEASE, HonestBroker

#: Seconds until a client gives up a call, and until that may still take effect.
PATIENCE, LATE = 1.0, 3.0
#: Seconds for which clients do what they like; then workers only acknowledge.
WILD = 12.0
#: From here on nothing that was sent is still under way.
QUIET = WILD + 2 * PATIENCE + LATE + LEASE

Act = Callable[[float], tuple[Item, ...]]
Then = Callable[[tuple[Item, ...] | None], None]


@dataclass(frozen=True, slots=True)
class Losses:
    """Shares of 1."""

    requests: float = 0.04
    replies: float = 0.04
    #: Of the lost requests, those that arrive all the same, after their client gave up.
    late: float = 0.5


@dataclass(slots=True)
class Network:
    """A calendar of what happens when, and the calls that were made."""

    chance: Random
    losses: Losses
    broker: HonestBroker = field(default_factory=HonestBroker)
    calls: list[Call] = field(default_factory=list)
    now: float = 0.0
    _events: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _count: int = 0

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, what))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._events:
            self.now, _, what = heapq.heappop(self._events)
            self.broker.pass_time(self.now)
            what()

    def call(self, client: str, rpc: str, asked: tuple[Item, ...], act: Act, then: Then) -> None:
        """Calls ``then`` with the answer, or with None once the client has given up."""
        chance, called = self.chance, self.now
        lost = chance.random() < self.losses.requests
        unheard = chance.random() < self.losses.replies

        def end(outcome: Outcome, items: tuple[Item, ...]) -> None:
            self.calls.append(Call(client, rpc, called, self.now, outcome, items))
            then(items if outcome is Outcome.OK else None)

        def arrive() -> None:
            answer = act(self.now)
            if not unheard:
                self.after(chance.uniform(0, 0.05), lambda: end(Outcome.OK, answer))

        if not lost:
            self.after(chance.uniform(0, 0.05), arrive)
        elif chance.random() < self.losses.late:
            self.after(PATIENCE + chance.uniform(0, LATE), lambda: act(self.now))
        if lost or unheard:
            self.after(PATIENCE, lambda: end(Outcome.UNKNOWN, asked))

    @property
    def wild(self) -> bool:
        return self.now < WILD


class Producer:
    def __init__(self, net: Network, name: str) -> None:
        self._net = net
        self._name = name
        self._made = 0
        self._sent: list[Pushed] = []

    def work(self) -> None:
        if self._net.wild:
            chance = self._net.chance
            specs = [self._spec() for _ in range(chance.randrange(1, 4))]
            if self._sent and chance.random() < 0.2:
                specs = chance.sample(self._sent, min(2, len(self._sent)))
            else:
                self._sent += specs
            self._push(specs)

    def _push(self, specs: Sequence[Pushed]) -> None:
        net = self._net

        def then(answer: tuple[Item, ...] | None) -> None:
            if answer is None and net.chance.random() < 0.8:
                self._push(specs)
            else:
                net.after(net.chance.uniform(0, 0.5), self.work)

        def act(now: float) -> tuple[Item, ...]:
            return tuple(net.broker.push(now, spec) for spec in specs)

        net.call(self._name, "Push", tuple(specs), act, then)

    def _spec(self) -> Pushed:
        chance = self._net.chance
        self._made += 1
        return Pushed(
            f"{self._name}-{self._made}",
            "q",
            priority=chance.choice((0, 0, 1)),
            delay=chance.choice((0.0, 0.0, 0.0, chance.uniform(0.1, 3.0))),
            max_attempts=chance.choice((1, 2, 3, 1000)),
            expires=chance.choice((None, None, None, chance.uniform(0.1, 2.0))),
            unique_key=chance.choice(("", "", "", "", "key")),
        )


class Worker:
    def __init__(self, net: Network, name: str) -> None:
        self._net = net
        self._name = name
        self._old: list[Settled] = []

    def work(self) -> None:
        net = self._net
        if net.now < QUIET or not net.broker.rests:
            most = net.chance.randrange(1, 4)
            net.call(
                self._name, "Reserve", (), lambda now: self._reserve(now, most), self._reserved
            )

    def _reserve(self, now: float, most: int) -> tuple[Item, ...]:
        return tuple(self._net.broker.reserve(now, most))

    def _reserved(self, answer: tuple[Item, ...] | None) -> None:
        net, chance = self._net, self._net.chance
        brought = [item for item in answer or () if isinstance(item, Delivered)]
        settles = [self._outcome(each) for each in brought if not net.wild or chance.random() < 0.9]
        if net.wild and self._old and chance.random() < 0.2:
            old = chance.choice(self._old)
            settles.append(replace(old, action=chance.choice((old.action, "ack", "retry"))))
        pause = chance.choice((0.0, 0.02, 0.2, LEASE * 1.1)) if net.wild else 0.02
        if settles and chance.random() < 0.3:
            net.after(pause / 2, lambda: self._beat(settles))
        net.after(pause, lambda: self._settle(settles) if settles else self.work())

    def _outcome(self, brought: Delivered) -> Settled:
        chance = self._net.chance
        action = "ack"
        if self._net.wild:
            action = chance.choices(("ack", "retry", "reject", "release"), (6, 3, 1, 1))[0]
        delay = None
        if action in ("retry", "release"):
            delay = chance.choice((None, chance.uniform(0.1, 1.0)))
        return Settled(brought.job_id, brought.token, action, delay)

    def _beat(self, settles: Sequence[Settled]) -> None:
        beats = tuple(Beat(each.job_id, each.token) for each in settles)

        def act(now: float) -> tuple[Item, ...]:
            return tuple(self._net.broker.beat(now, beat) for beat in beats)

        self._net.call(self._name, "Heartbeat", beats, act, lambda _: None)

    def _settle(self, settles: Sequence[Settled]) -> None:
        net = self._net
        self._old += settles

        def act(now: float) -> tuple[Item, ...]:
            return tuple(net.broker.settle(now, each) for each in settles)

        def then(answer: tuple[Item, ...] | None) -> None:
            again = 0.9 if answer is None else 0.1
            if net.chance.random() < again:
                self._settle(settles)
            else:
                net.after(net.chance.uniform(0, 0.1), self.work)

        net.call(self._name, "Settle", tuple(settles), act, then)


class Operator:
    def __init__(self, net: Network) -> None:
        self._net = net

    def work(self) -> None:
        net, chance = self._net, self._net.chance
        if net.wild and net.broker.jobs:
            job_id = chance.choice(list(net.broker.jobs))
            chance.choice((self._cancel, self._requeue, self._requeue, self._discard))(job_id)
            net.after(chance.uniform(0.1, 1.0), self.work)
        elif net.wild:
            net.after(0.5, self.work)

    def _cancel(self, job_id: str) -> None:
        broker = self._net.broker
        self._call("CancelJob", Cancelled(job_id), lambda _: broker.cancel(job_id))

    def _requeue(self, job_id: str) -> None:
        broker = self._net.broker
        done = lambda now: Requeued(job_id, broker.requeue(now, job_id))  # noqa: E731 -- its peers
        self._call("RequeueDead", Requeued(job_id), done)

    def _discard(self, job_id: str) -> None:
        broker = self._net.broker
        self._call(
            "DiscardDead", Discarded(job_id), lambda _: Discarded(job_id, broker.discard(job_id))
        )

    def _call(self, rpc: str, asked: Item, act: Callable[[float], Item]) -> None:
        self._net.call("operator", rpc, (asked,), lambda now: (act(now),), lambda _: None)


def honest_history(seed: int, losses: Losses = Losses(), *, operator: bool = True) -> History:
    """The same for the same seed."""
    net = Network(Random(seed), losses)
    for number in range(2):
        net.after(0, Producer(net, f"p{number}").work)
    for number in range(3):
        net.after(0, Worker(net, f"w{number}").work)
    if operator:
        net.after(1.0, Operator(net).work)
    net.run()
    return History(net.calls, net.broker.final())
