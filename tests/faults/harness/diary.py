"""What one client writes down while it works: a file of lines that outlives its process."""

import os
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

import grpc

from tests.faults.harness.history import Call, Item, Outcome, to_line

Answer = TypeVar("Answer")

#: After these the broker has done nothing.
_REFUSED = frozenset(
    {
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
#: After these nobody knows. Any other status is a defect.
_UNKNOWN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
    }
)


def excused(code: grpc.StatusCode) -> bool:
    """Whether a fault, or a limit, explains it."""
    return code in _REFUSED or code in _UNKNOWN


class Diary:
    """Each line is written before anything else happens, so that a kill loses none."""

    def __init__(self, folder: Path, client: str) -> None:
        self._client = client
        path = folder / f"{client}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def close(self) -> None:
        os.close(self._file)

    def call(
        self,
        rpc: str,
        asked: Sequence[Item],
        ask: Callable[[], Answer],
        told: Callable[[Answer], Sequence[Item]],
        name: str = "",
    ) -> Answer | None:
        """Makes a call and writes it down: with ``asked`` while its answer is not known, and with
        what ``told`` makes of the answer. None: it failed as calls may fail.

        Raises grpc.RpcError for a status that no fault excuses.
        """
        called = time.monotonic()
        self._write(rpc, called, inf, Outcome.UNKNOWN, asked, "", name)
        try:
            answer = ask()
        except grpc.RpcError as error:
            code = error.code()
            outcome = Outcome.FAILED if code in _REFUSED else Outcome.UNKNOWN
            self._write(rpc, called, time.monotonic(), outcome, asked, code.name, name)
            if not excused(code):
                raise
            return None
        self._write(rpc, called, time.monotonic(), Outcome.OK, told(answer), "", name)
        return answer

    def _write(
        self,
        rpc: str,
        called: float,
        returned: float,
        outcome: Outcome,
        items: Sequence[Item],
        error: str,
        name: str,
    ) -> None:
        call = Call(self._client, rpc, called, returned, outcome, tuple(items), error, name)
        os.write(self._file, to_line(call))
