"""What an error that a server answers means for the request."""

import re
from enum import Enum, auto

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)

from towline_broker.drivers.redis.link.wire import ErrorReply


class Verdict(Enum):
    """In every case but DEFECT the request has not been executed, and changed nothing."""

    #: The server does not have the script (any more).
    LOAD = auto()
    #: The partition is on another server now.
    MOVED = auto()
    #: The partition is on its way to another server, which is to be asked.
    ASK = auto()
    #: Not now: it may soon be different.
    WAIT = auto()
    #: Not here: the server is no master any more, or knows of no master. It may soon be different.
    ELSEWHERE = auto()
    #: The memory that the server may use is used.
    FULL = auto()
    #: The server does not take changes, or not from us, until somebody does something about it.
    REFUSED = auto()
    #: Anything else: the script has failed, perhaps in the middle of its work.
    DEFECT = auto()


_BY_CLASS = (
    (NoScriptError, Verdict.LOAD),
    (MovedError, Verdict.MOVED),
    (AskError, Verdict.ASK),
    (TryAgainError, Verdict.WAIT),
    (BusyLoadingError, Verdict.WAIT),
    (MasterDownError, Verdict.ELSEWHERE),
    (ClusterDownError, Verdict.ELSEWHERE),
    (ReadOnlyError, Verdict.ELSEWHERE),
    (OutOfMemoryError, Verdict.FULL),
    (NoPermissionError, Verdict.REFUSED),
    (AuthenticationError, Verdict.REFUSED),
)
_BY_CODE = {
    "BUSY": Verdict.WAIT,
    "NOREPLICAS": Verdict.WAIT,
    "MASTERDOWN": Verdict.ELSEWHERE,
    "READONLY": Verdict.ELSEWHERE,
    "CLUSTERDOWN": Verdict.ELSEWHERE,
    "OOM": Verdict.FULL,
    "MISCONF": Verdict.REFUSED,
    "NOPERM": Verdict.REFUSED,
}
#: At the beginning; or further on, as Redis 6.2 wraps what stopped the first change of a script.
_CODE = re.compile(r"(?:^|[:\s]-)([A-Z]{3,})\b")
_NOT_ALLOWED = "can't run this command"


def judge(error: ErrorReply) -> Verdict:
    for kind, verdict in _BY_CLASS:
        if isinstance(error, kind):
            return verdict
    text = str(error)
    for code in _CODE.findall(text):
        if code in _BY_CODE:
            return _BY_CODE[code]
    return Verdict.REFUSED if _NOT_ALLOWED in text else Verdict.DEFECT
