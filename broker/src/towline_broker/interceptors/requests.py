"""The call that is being answered, for everything that is logged meanwhile."""

import re
import secrets
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import grpc

#: Metadata with which a caller names its call, as proxies and frameworks do.
REQUEST_ID_KEY = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}", re.ASCII)


class Request:
    __slots__ = ("_context", "_id", "about", "method")

    def __init__(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.method = method
        #: What is told of it in the log: filled in further in, where it can be read.
        self.about: Mapping[str, object] = {}
        self._context = context
        self._id = ""

    @property
    def id(self) -> str:
        """As its caller named it, or made up: only if somebody asks."""
        if not self._id:
            self._id = self._named() or secrets.token_hex(6)
        return self._id

    @property
    def peer(self) -> str:
        return str(self._context.peer())

    def _named(self) -> str:
        for key, value in self._context.invocation_metadata() or ():
            if key == REQUEST_ID_KEY and isinstance(value, str) and _SANE.fullmatch(value):
                return value
        return ""


_current: ContextVar[Request | None] = ContextVar("towline_request", default=None)


def current_request() -> Request | None:
    """None outside of any call."""
    return _current.get()


def begin(request: Request) -> None:
    """From here on this task, and those that it starts, answer this call."""
    _current.set(request)
