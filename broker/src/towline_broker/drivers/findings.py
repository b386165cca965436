"""What a look at a store has found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    what: str
    #: What to do about it.
    way_out: str = ""
    #: ``towline-broker check --repair`` puts it right.
    repairable: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    #: What is there, in a few words.
    summary: str
    findings: Sequence[Finding] = ()
    #: What was put right.
    repaired: Sequence[str] = ()
    #: Queues that are on their way elsewhere, so that workers get nothing from them, and where to.
    sealed: Mapping[str, str] = field(default_factory=dict)
