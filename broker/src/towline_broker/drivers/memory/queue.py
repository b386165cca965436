"""A queue, and the jobs that wait in it."""

from towline_broker.drivers.memory.lines import NumberedLine, ReadyLine
from towline_broker.drivers.memory.records import Job


class Queue:
    __slots__ = ("live", "moved", "moving_to", "name", "paused", "ready", "scheduled")

    def __init__(self, name: str) -> None:
        self.name = name
        self.paused = False
        #: The store that the queue is on its way to, or in; empty: this one.
        self.moving_to = ""
        self.moved = False
        self.ready = ReadyLine()
        #: By their places.
        self.scheduled: NumberedLine[int, Job] = NumberedLine()
        #: SCHEDULED + READY + LEASED.
        self.live = 0
