"""Whom the HTTP server asks: a broker in this process, or several processes that it looks after."""

from dataclasses import dataclass
from typing import Protocol


class NotYet(Exception):
    """The broker is starting: there is nothing to tell yet."""


class Watched(Protocol):
    async def metrics(self) -> bytes:
        """In the text format of Prometheus. Raises NotYet."""

    async def health(self) -> "Health":
        """Whether it takes new work."""


@dataclass(frozen=True)
class Health:
    """``problems`` keep it from taking any work; ``notes`` are about a part of it."""

    problems: list[str]
    notes: list[str]

    @property
    def ready(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        verdict = "ready" if self.ready else "not ready"
        return "".join(f"{line}\n" for line in (verdict, *self.problems, *self.notes))
