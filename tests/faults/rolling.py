"""Brokers that are restarted one by one, and clients of the SDK at work meanwhile."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.faults import stressed
from tests.faults.durable_stores import EVERY, Store
from tests.faults.harness.checker import Verdict
from tests.faults.harness.figures import Figures, seed, size
from tests.faults.harness.history import Call, Outcome
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess
from towline import Client, Job, Registry, Worker, current_job, job
from towline.channel import SAFE_TO_REPEAT

#: How often every broker is restarted.
ROUNDS = size("ROLLS", 1)
#: Jobs that are done between two restarts, at least.
PROGRESS = 50
#: A Reserve whose answer is lost is made again with its request_id, and brings the same leases.
HABITS = replace(stressed.HABITS, named_reserves=1.0, call_timeout=30.0)

REPEATED = frozenset(rpc for rpcs in SAFE_TO_REPEAT.values() for rpc in rpcs)

registry = Registry()


@job(registry=registry, queue="sdk", max_attempts=1)
def work(number: int) -> list[object]:
    return [number, current_job().attempt]


def repeatable(verdict: Verdict) -> tuple[list[Call], list[Call]]:
    """The calls that may be repeated, and those of them that failed all the same. Those of
    operators that are not safe to repeat go out once."""
    calls = [call for call in verdict.history.calls if call.rpc in REPEATED]
    return calls, [call for call in calls if call.outcome is not Outcome.OK]


@contextmanager
def brokers_over(kind: str, folder: Path, count: int) -> Iterator[list[BrokerProcess]]:
    with EVERY[kind](folder) as store, ExitStack() as running:
        brokers = [store.broker(folder, f"broker-{number}") for number in range(count)]
        yield [running.enter_context(broker) for broker in brokers]


def restarted(
    brokers: Sequence[BrokerProcess], progress: Callable[[], None], rounds: int = ROUNDS
) -> int:
    """Each in its turn, with work done in between; how often in all."""
    for _ in range(rounds):
        for broker in brokers:
            progress()
            assert broker.stop() == 0
            broker.start()
    progress()
    return rounds * len(brokers)


class SdkAtWork:
    """A client that dispatches jobs and awaits their results, and a worker that does them."""

    def __init__(self, client: Client, target: str) -> None:
        self.errors: list[BaseException] = []
        #: The numbers of the jobs that were dispatched, and how often each was done.
        self.pushed: list[int] = []
        self.done: Counter[int] = Counter()
        self._client = client
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self.worker = Worker(
            target,
            ["sdk"],
            registry=registry,
            guardian=False,
            on_job_complete=self._completed,
            on_error=self.errors.append,
        )
        self.producer = threading.Thread(target=self._produce)

    def wait_for(self, more: int) -> None:
        """Returns once so many jobs more are done than are now."""
        with self._changed:
            goal = self.done.total() + more
            assert self._changed.wait_for(lambda: self.done.total() >= goal, 60), self.errors

    def finish(self) -> None:
        """No more jobs; all that were dispatched are done."""
        self.end()
        assert not self.producer.is_alive(), "the producer hangs"
        with self._changed:
            self._changed.wait_for(lambda: self.done.total() >= len(self.pushed), 60)

    def end(self) -> None:
        self._ending.set()
        self.producer.join(60)

    def _completed(self, job: object, result: object) -> None:
        assert isinstance(result, list)
        number, attempt = result
        with self._changed:
            self.done[number] += 1
            self._changed.notify_all()
        if attempt != 1:
            self.errors.append(AssertionError(f"attempt {attempt} of job {number}"))

    def _produce(self) -> None:
        number = 0
        try:
            while not self._ending.is_set():
                batch: list[Job] = [work.job(number + each) for each in range(10)]
                handles = self._client.dispatch_batch(batch, retention=60)
                self.pushed += range(number, number + 10)
                result = handles[-1].result(timeout=60)
                assert result == [number + 9, 1]
                number += 10
        except BaseException as error:  # told by the test, which sees no exception of a thread
            self.errors.append(error)


@contextmanager
def sdk_at_work(target: str) -> Iterator[SdkAtWork]:
    with Client(target, call_timeout=30) as client:
        sdk = SdkAtWork(client, target)
        sdk.worker.start()
        sdk.producer.start()
        try:
            yield sdk
        finally:
            sdk.end()
            sdk.worker.stop(10)


def roll_under_grpc(
    addresses: Sequence[str],
    brokers: Sequence[BrokerProcess],
    folder: Path,
    figures: Figures,
    where: str,
) -> None:
    """Every promise is kept to clients of gRPC with its standard retries, and no call fails that
    may be repeated."""
    with Load(addresses, folder, seed=seed(), habits=HABITS, retries=True) as load:
        restarts = restarted(brokers, lambda: load.wait_for_acknowledged(PROGRESS))
        verdict = load.finish(assumptions=Store("").shared)
    calls, failed = repeatable(verdict)
    figures.prove(
        f"rolling restarts{where}",
        verdict,
        restarts=restarts,
        calls=len(calls),
        calls_failed=len(failed),
    )
    assert failed == [], said_by(brokers)


def roll_under_sdk(
    target: str, brokers: Sequence[BrokerProcess], figures: Figures, where: str
) -> None:
    """No call of the SDK fails, and each job is done once."""
    with sdk_at_work(target) as sdk:
        restarts = restarted(brokers, lambda: sdk.wait_for(PROGRESS))
        sdk.finish()
    figures.show(
        f"rolling restarts with the SDK{where}",
        restarts=restarts,
        jobs=len(sdk.pushed),
        done=sdk.done.total(),
        errors=len(sdk.errors),
    )
    assert sdk.errors == [], said_by(brokers)
    assert sdk.done == Counter(sdk.pushed)


def said_by(brokers: Sequence[BrokerProcess]) -> list[str]:
    return [line for each in brokers for line in each.log.splitlines() if "ERROR" in line]
