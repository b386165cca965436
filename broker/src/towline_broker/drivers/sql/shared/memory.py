"""What one broker remembers of the store, for all its connections. None of it need be right."""

from dataclasses import dataclass, field

from towline_broker.drivers.sql.shared.depths import LiveDepths
from towline_broker.drivers.sql.shared.heads import TimeHeads
from towline_broker.drivers.sql.shared.hot import Line
from towline_broker.drivers.sql.shared.ready import ReadyLines


@dataclass(frozen=True, slots=True)
class Memory:
    lines: ReadyLines = field(default_factory=ReadyLines)
    heads: TimeHeads = field(default_factory=TimeHeads)
    depths: LiveDepths = field(default_factory=LiveDepths)
    #: Of queues that had no more than one, when they were last looked at.
    only_lines: dict[str, Line] = field(default_factory=dict)
