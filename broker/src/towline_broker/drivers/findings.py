"""What a look at a store has found."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    what: str
    #: What to do about it.
    way_out: str = ""
    #: ``towline-broker check --repair`` puts it right.
    repairable: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.way_out}" if self.way_out else self.what


@dataclass(frozen=True, slots=True)
class Report:
    #: What is there, in a few words.
    summary: str
    findings: Sequence[Finding] = ()
    #: What was put right.
    repaired: Sequence[str] = ()
