"""Counts as they are told to people."""


def many(count: int, thing: str) -> str:
    """``1 job``, ``1,200 jobs``; of a word whose plural is made by an s."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
