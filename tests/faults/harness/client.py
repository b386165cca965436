"""What producers, workers and operators have in common."""

import random

from tests.faults.harness.diary import Diary
from tests.faults.harness.habits import Habits
from tests.faults.harness.link import Link


class Client:
    """Raw calls without the SDK, so that nothing is repeated but by what stands in its class."""

    def __init__(self, link: Link, diary: Diary, habits: Habits, seed: int) -> None:
        self._link = link
        self._diary = diary
        self._habits = habits
        self._rng = random.Random(seed)
