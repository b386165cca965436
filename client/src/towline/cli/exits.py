"""What the command's exit codes mean, and which error gives which."""

from enum import IntEnum

from towline import errors


class Exit(IntEnum):
    OK = 0
    #: The job, queue or worker asked about is not there, ended badly, or the answer was "no".
    FAILED = 1
    #: Something on the command line, a field that the broker refused, or what its store cannot do.
    USAGE = 2
    #: No broker can be reached, it is stopping, or its store is down.
    UNREACHABLE = 3
    #: Not done within the time that was given.
    TIMEOUT = 4
    #: The broker wants credentials, or does not let these do this.
    DENIED = 5
    #: A queue, the disk or the memory of the broker is full; later it may work.
    FULL = 6
    #: A defect of the broker or of this command.
    DEFECT = 70
    INTERRUPTED = 130


HELP = """\b
Exit codes:
  0    done
  1    not found, ended badly, or answered with no
  2    wrong usage, a field that is refused, or what the store cannot do
  3    no broker can be reached, or it is stopping
  4    not done in the time that was given
  5    not allowed
  6    a queue, or the broker's disk or memory, is full: try again later
  70   a defect of the broker or of this command
  130  interrupted"""


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
    return next((code for kind, code in _CODES if isinstance(error, kind)), None)
