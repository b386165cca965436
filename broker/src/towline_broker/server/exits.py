"""How the process ends: exit codes after sysexits.h, and the errors that lead to them."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    #: The store was refused: not ours, of a newer schema, or owned by another broker.
    STORE_REFUSED = 66
    #: The address is taken or is not this machine's, or the store cannot be reached.
    UNAVAILABLE = 69
    #: A defect of the broker.
    UNEXPECTED = 70
    #: The store broke a promise that durability rests on.
    STORE_FAILED = 74
    #: Asked to stop, it did not end in time: something hung, or the store did not close.
    #: What was acknowledged is safe.
    CUT_OFF = 75
    #: A setting is wrong.
    CONFIG = 78


class StartError(Exception):
    """The broker cannot start. The message says why, and the way out."""

    exit_code = ExitCode.UNEXPECTED


class ConfigError(StartError):
    exit_code = ExitCode.CONFIG


class WrongSettings(ConfigError):
    """``mistakes``: a line for each, with the place of the value."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("wrong settings:\n" + "\n".join(f"  {mistake}" for mistake in mistakes))
        self.mistakes = list(mistakes)


class AddressError(StartError):
    exit_code = ExitCode.UNAVAILABLE
