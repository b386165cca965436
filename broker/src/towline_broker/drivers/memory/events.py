"""What one or more calls have brought about, for whoever listens."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Events:
    #: Jobs that became READY, by queue.
    ready: Counter[str] = field(default_factory=Counter)
    #: Ids of jobs that ended.
    ended: list[str] = field(default_factory=list)
