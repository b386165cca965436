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

from towline_broker.drivers.redis.link.endpoint import ErrorReply
from towline_broker.drivers.redis.link.url import Address


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
    #: Not here: the server is no master any more, knows of no master, or has lost its replicas as
    #: one does that was replaced. It may soon be different.
    ELSEWHERE = auto()
    #: The memory that the server may use is used.
    FULL = auto()
    #: The server takes no changes until somebody does something about it.
    REFUSED = auto()
    #: Not from us: the user has not the right.
    FORBIDDEN = auto()
    #: Anything else: the script has failed, perhaps in the middle of its work.
    DEFECT = auto()


#: The client (some of its versions) knows these by class, and has taken the code from their text.
_CODES = (
    (NoScriptError, "NOSCRIPT"),
    (MovedError, "MOVED"),
    (AskError, "ASK"),
    (TryAgainError, "TRYAGAIN"),
    (BusyLoadingError, "LOADING"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (ReadOnlyError, "READONLY"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (AuthenticationError, "NOAUTH"),
)
_VERDICTS = {
    "NOSCRIPT": Verdict.LOAD,
    "MOVED": Verdict.MOVED,
    "ASK": Verdict.ASK,
    "TRYAGAIN": Verdict.WAIT,
    "LOADING": Verdict.WAIT,
    "BUSY": Verdict.WAIT,
    "NOREPLICAS": Verdict.ELSEWHERE,
    "MASTERDOWN": Verdict.ELSEWHERE,
    "CLUSTERDOWN": Verdict.ELSEWHERE,
    "READONLY": Verdict.ELSEWHERE,
    "OOM": Verdict.FULL,
    "MISCONF": Verdict.REFUSED,
    "NOPERM": Verdict.FORBIDDEN,
    "NOAUTH": Verdict.FORBIDDEN,
}
#: At the beginning; or further on, as Redis 6.2 wraps what stopped the first change of a script.
_CODE = re.compile(r"(?:^|[:\s]-)([A-Z]{3,})\b")
_NOT_ALLOWED = "can't run this command"
_REDIRECTION = re.compile(r"(?:MOVED|ASK) \d+ (?P<host>.*):(?P<port>\d+)")


def judge(error: ErrorReply) -> Verdict:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return _VERDICTS[code]
    text = str(error)
    for code in _CODE.findall(text):
        if code in _VERDICTS:
            return _VERDICTS[code]
    return Verdict.FORBIDDEN if _NOT_ALLOWED in text else Verdict.DEFECT


def describe(error: ErrorReply) -> str:
    """As the server said it."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return f"{code} {error}"
    return str(error)


def redirection(error: ErrorReply, asked: str) -> Address:
    """Where MOVED and ASK point to. A server that does not know how it is reached names no host:
    then it is the one that was asked."""
    match = _REDIRECTION.fullmatch(describe(error))
    if match is None:
        raise ValueError(f"no redirection: {error}")
    return Address(match["host"].strip("[]") or asked, int(match["port"]))
