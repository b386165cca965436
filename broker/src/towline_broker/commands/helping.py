"""The ends of help texts."""


def examples(*commands: str, then: str = "") -> str:
    """The examples of a command, and what follows them, as an epilog that keeps its lines."""
    lines = "".join(f"  {command}\n" for command in commands)
    return f"\b\nExamples:\n{lines}\n{then}"
