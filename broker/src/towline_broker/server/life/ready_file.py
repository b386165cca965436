"""The file that holds the address of a broker for as long as it serves, for scripts that wait."""

from contextlib import suppress
from pathlib import Path

from towline_broker.server.exits import FileError


def make_way(path: Path) -> None:
    """Nothing there is of this broker, which does not serve yet: one that was killed has left it.

    Raises FileError if the file could not be written later, when there are stores to be closed.
    """
    try:
        path.unlink(missing_ok=True)
        partial = _partial(path)
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise FileError(f"--ready-file: cannot write {path}: {error.strerror}") from None


def write(path: Path, address: str) -> None:
    """Appears with the whole address in it. Raises FileError."""
    try:
        partial = _partial(path)
        partial.write_text(address + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise FileError(f"--ready-file: cannot write {path}: {error.strerror}") from None


def remove(path: Path) -> None:
    """Whatever comes of it: the broker has ended."""
    with suppress(OSError):
        path.unlink()


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")
