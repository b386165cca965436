"""Which decision tells why a goal is not met, or what it would take: by its number. Goals that have
not been missed yet have none."""

from pathlib import Path

DECISIONS = Path(__file__).parents[2] / "docs" / "decisions"

PUSH, WORK = "Push", "Reserve + Ack"
#: What bounds them all, and why those are missed that no other decision tells of.
BOUND = "0058"
#: "What is left" of a call with one job; 0054 and 0059 name what their stores add.
ONE_CALL = {
    **{(store, verb): "0051" for store in ("memory", "file", "sqlite") for verb in (PUSH, WORK)},
    **{("postgresql", verb): "0054" for verb in (PUSH, WORK)},
    ("redis", PUSH): BOUND,
    ("redis", WORK): "0059",
}
#: Where the time of a batch is.
HUNDRED = {
    "memory": "0060",
    "file": "0052",
    "sqlite": "0053",
    "redis": "0055",
    "postgresql": "0054",
}
#: 0048 tells of all of the store in memory, and of leases over those with a sync.
STREAMS = {
    ("memory", "PushStream"): "0048",
    ("memory", "Work"): "0048",
    ("file", "PushStream"): BOUND,
    ("file", "Work"): "0048",
    ("sqlite", "PushStream"): BOUND,
    ("sqlite", "Work"): "0048",
}
BARE = {"sqlite": "0053", "postgresql": "0046", "redis": "0046"}
DISPATCH = "0056"
#: 0061 measures the middle, not the tail.
STARTING = {"p50": "0061", "p99": BOUND}


def link(number: str) -> str:
    """As on a page in ``docs``; empty for none. Raises StopIteration if there is no such file."""
    if not number:
        return ""
    file = next(DECISIONS.glob(f"{number}-*.md"))
    return f"why: [{number}](decisions/{file.name})"
