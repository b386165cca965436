"""The parts of help texts that all commands have alike: exit codes and examples."""

from textwrap import wrap

from towline_broker.server.exits import Codes, ExitCode

#: Of a terminal, without the margin of help texts.
_WIDTH = 76


def with_codes(text: str, codes: Codes) -> str:
    """The help of a command, and below it its exit codes."""
    return f"{text.rstrip()}\n\n{exit_codes(codes)}"


def exit_codes(codes: Codes) -> str:
    """As a paragraph that keeps its lines."""
    rows = list(told(codes).items())
    width = max(len(code) for code, _ in rows) + 2
    lines = [
        line
        for code, meaning in rows
        for line in _row(code.ljust(width), wrap(meaning, _WIDTH - 2 - width), width)
    ]
    return "\n".join(("\b", "Exit codes:", *lines))


def told(codes: Codes) -> dict[str, str]:
    """Exit codes and their meaning, in words, in their order; wrong use is possible anywhere."""
    all_codes = {ExitCode.USAGE: "", **codes}
    return {str(int(code)): all_codes[code] or code.meaning for code in sorted(all_codes)}


def _row(code: str, meaning: list[str], width: int) -> list[str]:
    first, *others = meaning
    return [f"  {code}{first}", *(f"  {'':{width}}{other}" for other in others)]


def examples(*commands: str) -> str:
    """The examples of a command, as an epilog that keeps its lines."""
    return "\n".join(("\b", "Examples:", *(f"  {command}" for command in commands)))
