"""How a bug is planted in a memory engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from towline_broker.drivers.memory import Engine
from towline_broker.drivers.memory.lines import ReadyLine


@dataclass(frozen=True)
class Bug:
    #: A contract test that must fail on it.
    caught_by: str
    plant: Callable[[Engine], None]
    #: Random operations come upon it soon enough to be asked to.
    found_at_random: bool = True
    #: But only after many seconds of them.
    found_late: bool = False

    @property
    def name(self) -> str:
        return self.plant.__name__


BUGS: list[Bug] = []


def bug(
    caught_by: str, *, found_at_random: bool = True, found_late: bool = False
) -> Callable[[Callable[[Engine], None]], Callable[[Engine], None]]:
    def add(plant: Callable[[Engine], None]) -> Callable[[Engine], None]:
        BUGS.append(Bug(caught_by, plant, found_at_random, found_late))
        return plant

    return add


def wrap(part: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replaces a method of one object by what ``make`` makes of it."""
    setattr(part, name, make(getattr(part, name)))


def put_in_front(engine: Engine, job_id: str) -> None:
    """Of the others in its line."""
    job = engine._state.jobs[job_id]
    ready = engine._state.queues[job.queue].ready
    first = ready._by_priority[job.priority].first()
    if first is not job:
        ready.remove(job)
        job.place = first.place - 1
        ready.add(job)


def with_ready_line(engine: Engine, **methods: Any) -> None:
    """Gives every queue that comes into being a line with other methods."""
    spoiled = type("SpoiledLine", (ReadyLine,), methods)

    def make(queue: Any) -> Any:
        def broken(name: Any) -> Any:
            made = queue(name)
            if not isinstance(made.ready, spoiled):
                made.ready = spoiled()
            return made

        return broken

    wrap(engine._state, "queue", make)
