"""What was found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    OK = "ok"
    #: A broker would start, and may come to regret it.
    WARNING = "warning"
    #: A broker would not start, or would lose jobs.
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    #: What was looked at, such as "store default".
    about: str
    text: str
    #: What to do; empty if there is nothing to do.
    remedy: str = ""


def ok(about: str, text: str) -> Finding:
    return Finding(Level.OK, about, text)


def warning(about: str, text: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, about, text, remedy)


def problem(about: str, text: str, remedy: str) -> Finding:
    return Finding(Level.PROBLEM, about, text, remedy)
