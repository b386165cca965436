"""The sequence of the last frame that was acknowledged, in a file of its own; see
``drivers/acknowledged.py``."""

import struct
from contextlib import suppress
from pathlib import Path

from towline_broker.drivers.acknowledged import sealed, unsealed
from towline_broker.drivers.file.machine import Machine

NAME = "acknowledged"
_CONTENT = struct.Struct("<Q")


def read(machine: Machine, directory: Path) -> int:
    """0 if it is not known. Raises OSError."""
    path = directory / NAME
    content = unsealed(machine.read(path), _CONTENT.size) if machine.exists(path) else None
    if content is None:
        return 0
    (sequence,) = _CONTENT.unpack(content)
    return int(sequence)


class Mark:
    def __init__(self, machine: Machine, directory: Path) -> None:
        path = directory / NAME
        self._machine = machine
        self._file: int | None = None
        with suppress(OSError):
            self._file = machine.open(path) if machine.exists(path) else machine.create(path)

    def put(self, sequence: int) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._machine.write(self._file, sealed(_CONTENT.pack(sequence)), 0)

    def close(self) -> None:
        if self._file is not None:
            self._machine.close(self._file)
