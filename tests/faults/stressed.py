"""Two brokers under load on one store, to which one thing after the other happens."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from tests.faults.durable_stores import Store
from tests.faults.harness.figures import seed
from tests.faults.harness.habits import MIXED, Habits
from tests.faults.harness.load import Load
from tests.support.broker_process import BrokerProcess

Fault: TypeAlias = Callable[[], object]
A_FEW = 3
#: Lines of a broker's log that are told with a failure.
LAST_WORDS = 150
#: Not as fast as it goes: what happens is to hit calls of every kind, and not a machine at its end.
HABITS = replace(MIXED, pause=0.05)
#: How many jobs are done between two faults at least, and how long that may take, in seconds: it
#: shows that all goes on after each.
PROGRESS, PROGRESS_SECONDS = 20, 60.0


class Stress:
    def __init__(self, brokers: list[BrokerProcess], load: Load, chance: random.Random) -> None:
        self.brokers = brokers
        self.load = load
        #: How often each fault was there.
        self.made: Counter[str] = Counter()
        self._chance = chance

    def suffer(self, faults: Mapping[str, Fault], rounds: int) -> None:
        """Every fault so many times, in random order and at random moments; 0: a few of them
        once."""
        names = list(faults) * rounds if rounds else self._chance.sample(list(faults), A_FEW)
        for name in self._shuffled(names):
            time.sleep(self._chance.uniform(0.0, 0.4))
            faults[name]()
            self.made[name] += 1
            self.load.wait_for_acknowledged(PROGRESS, PROGRESS_SECONDS)

    def _shuffled(self, names: list[str]) -> list[str]:
        return self._chance.sample(names, len(names))


@contextmanager
def stressed(
    url: str, folder: Path, *, habits: Habits = HABITS, workers: int = 3
) -> Iterator[Stress]:
    store = Store(url)
    with (
        store.broker(folder, "broker-a") as one,
        store.broker(folder, "broker-b") as other,
        Load(
            *([one.address, other.address], folder),
            seed=seed(),
            habits=habits,
            workers=workers,
        ) as load,
    ):
        try:
            load.wait_for_acknowledged(PROGRESS, PROGRESS_SECONDS)
            yield Stress([one, other], load, random.Random(seed()))
        except BaseException as error:
            for broker in (one, other):
                error.add_note(f"the broker at {broker.address} said:\n{_last_words(broker)}")
            raise


def _last_words(broker: BrokerProcess) -> str:
    """Without what every run is full of."""
    lines = [line for line in broker.log.splitlines() if " lost its lease " not in line]
    return "\n".join(lines[-LAST_WORDS:])
