"""What a thing to be fuzzed offers, and what is found."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from random import Random

#: Of the processor's time; a longer one counts as a hang.
MOST_SECONDS = 1.0


class Found(AssertionError):
    """An input that was not dealt with as it should. ``raw`` is kept for a test."""

    def __init__(self, what: str, raw: bytes, error: BaseException | str) -> None:
        shown = raw.hex() if len(raw) <= 2_000 else f"{raw[:1_000].hex()}... ({len(raw)} bytes)"
        kind = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
        super().__init__(f"{what}: {kind}{error}\n  input: {shown}")
        self.raw = raw


class Target(ABC):
    """A parser, or all methods of a broker. One *epoch* begins from nothing and leaves nothing."""

    name: str
    #: So many inputs make an epoch.
    size: int

    @abstractmethod
    def epoch(self, rng: Random, count: int) -> Counter[str]:
        """Runs so many inputs; returns how often each kind of answer came. Raises Found."""


class Stopwatch:
    """As a context manager around one input: finds those that take too long."""

    def __init__(self, what: str, raw: bytes) -> None:
        self._what = what
        self._raw = raw
        self._begun = 0.0

    def __enter__(self) -> None:
        self._begun = time.thread_time()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        took = time.thread_time() - self._begun
        if kind is None and took > MOST_SECONDS:
            raise Found(self._what, self._raw, f"took {took:.1f} s of the processor")
