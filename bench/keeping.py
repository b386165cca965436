"""Which part takes the place of the one that is kept, and why another does not."""

from bench.results import Part


def refusal(part: Part, kept: Part | None) -> str:
    """Why it is not kept; empty if it is to be."""
    if not part.figures:
        return "nothing was measured"
    if part.with_changes:
        return "files have been changed since the last commit, so nobody could measure it again"
    # What a machine has not, it may lose; a quick part is no loss where there is a whole one.
    if part.failed and kept and (part.quick or not kept.quick):
        lost = _lost(part, kept)
        if lost:
            return f"something failed, and the one that is kept has more of {', '.join(lost)}"
    return ""


def _lost(part: Part, kept: Part) -> list[str]:
    """The stores or contestants of which it has not every figure."""
    found = {(each.run, each.who, each.what, each.shape) for each in part.figures}
    return list(
        dict.fromkeys(
            each.who if each.run == part.name else each.run
            for each in kept.figures
            if (each.run, each.who, each.what, each.shape) not in found
        )
    )
