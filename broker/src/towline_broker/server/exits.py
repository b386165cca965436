"""How a process ends: every exit code of ``towline-broker``, and the errors that lead to them."""

from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias


class ExitCode(IntEnum):
    """After sysexits.h, where it has one. ``meaning`` is what help texts and docs say of it."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done, or ended as it should"
    NO = 1, "the answer is no: damaged, not serving, not found, not done"
    USAGE = 2, "wrong use"
    BAD_FILE = 65, "a file that was given is not what it should be"
    #: Not ours, of a newer schema, owned by another broker, or unable to do this.
    STORE_REFUSED = 66, "a store was refused"
    #: The address is taken or is not this machine's, or the store cannot be reached.
    UNAVAILABLE = 69, "an address, a store or a broker is not to be had"
    UNEXPECTED = 70, "a defect of towline-broker"
    NOT_WRITTEN = 73, "a file cannot be read or written"
    #: The store broke a promise that durability rests on.
    STORE_FAILED = 74, "a store failed"
    #: What was acknowledged is safe.
    CUT_OFF = 75, "told to stop, and did not in time"
    CONFIG = 78, "a setting is wrong"
    INTERRUPTED = 130, "stopped at once, by Ctrl-C (SIGINT)"
    TERMINATED = 143, "stopped at once, by SIGTERM"


#: What exit codes of a command mean there; nothing: what they mean everywhere.
Codes: TypeAlias = dict[ExitCode, str]


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


class FileError(StartError):
    exit_code = ExitCode.NOT_WRITTEN


class AddressError(StartError):
    exit_code = ExitCode.UNAVAILABLE
