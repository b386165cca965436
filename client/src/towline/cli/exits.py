"""What the command's exit codes mean, and which error gives which."""

from __future__ import annotations

from enum import IntEnum

from towline import errors


class Exit(IntEnum):
    """``meaning`` is what the help and docs/exit-codes.md say of it."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "done"
    #: The job, queue or worker asked about is not there, ended badly, or the answer was "no".
    FAILED = 1, "not found, ended badly, or answered with no"
    USAGE = 2, "wrong use, a field that is refused, or what the store cannot do"
    UNREACHABLE = 3, "no broker can be reached, it is stopping, or its store is down"
    TIMEOUT = 4, "not done in the time that was given"
    #: The broker wants credentials, or does not let these do this.
    DENIED = 5, "not allowed"
    FULL = 6, "a queue, or the broker's disk or memory, is full: try again later"
    DEFECT = 70, "a defect of the broker or of this command"
    INTERRUPTED = 130, "interrupted"


HELP = "\n".join(("\b", "Exit codes:", *(f"  {code:<5}{code.meaning}" for code in Exit)))


class UsageError(Exception):
    """Something is wrong with what was typed. The message names the option and the way out."""


class Failed(Exception):
    """What was asked for did not come about; the message says why."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


_CODES: tuple[tuple[type[Exception], Exit], ...] = (
    (UsageError, Exit.USAGE),
    (errors.InvalidArgument, Exit.USAGE),
    (errors.NotSupported, Exit.USAGE),
    (errors.ConfigurationError, Exit.USAGE),
    (errors.InvalidPayload, Exit.USAGE),
    (errors.InvalidJob, Exit.USAGE),
    (errors.BrokerUnavailable, Exit.UNREACHABLE),
    (errors.DeadlineExceeded, Exit.TIMEOUT),
    (errors.ResultTimeout, Exit.TIMEOUT),
    (errors.PermissionDenied, Exit.DENIED),
    (errors.Unauthenticated, Exit.DENIED),
    (errors.ResourceExhausted, Exit.FULL),
    (errors.BrokerError, Exit.DEFECT),
    (errors.TowlineError, Exit.FAILED),
)


def code_of(error: Exception) -> Exit | None:
    """Return the exit code for an error that is told in one line; None for a defect of our own."""
    if isinstance(error, Failed):
        return error.code
    if isinstance(error, errors.BrokerError) and error.code == "UNIMPLEMENTED":
        return Exit.UNREACHABLE  # something answers there, but no Towline broker
    if isinstance(error, errors.BrokerUnavailable) and error.reason == "DISK_FULL":
        return Exit.FULL
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)
