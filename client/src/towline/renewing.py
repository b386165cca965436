"""A channel whose certificates come from files, and are renewed without a restart.

The credentials of a gRPC channel are fixed. So when the files have changed, calls go to a new
channel from then on; the one before is closed when the last call on it is over.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from towline.credentials import TlsCredentials
from towline.errors import ConfigurationError

logger = logging.getLogger("towline")

LOOK_EVERY = 1.0
"""Seconds between two looks at the files."""

Open = Callable[[TlsCredentials], Any]


class _Opened:
    """One of gRPC's channels, and how many calls run on it."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.calls = 0
        self.replaced = False


class RenewingChannel:
    """A grpc.Channel in all but its class. Safe from any thread.

    ``open_`` returns a channel of gRPC with such credentials. Files that cannot be read, or do not
    go together, leave what was read before in use, with a warning in the log.
    """

    def __init__(self, tls: TlsCredentials, open_: Open) -> None:
        self._open = open_
        self._lock = threading.Lock()
        self._told = ""
        self._signature = tls.signature()
        self._tls = self._read_again(tls)
        self._current = _Opened(open_(self._tls))
        #: Those before it on which calls still run.
        self._replaced: set[_Opened] = set()
        self._looked = time.monotonic()
        self._closed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._current.channel, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for channel in self._close():
            channel.close()

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        return self._method("unary_unary", args, options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        return self._method("unary_stream", args, options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        return self._method("stream_unary", args, options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        return self._method("stream_stream", args, options)

    def _method(self, kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return _Method(self, kind, args, options)

    def begin(self) -> _Opened:
        """Return where the next call goes; :meth:`end` is to follow."""
        with self._lock:
            if not self._closed and time.monotonic() - self._looked >= LOOK_EVERY:
                self._look()
            opened = self._current
            opened.calls += 1
            return opened

    def end(self, opened: _Opened) -> None:
        with self._lock:
            opened.calls -= 1
            last = opened.replaced and not opened.calls
            if last:
                self._replaced.discard(opened)
        if last:
            self._let_go(opened.channel)

    def _look(self) -> None:
        self._looked = time.monotonic()
        signature = self._tls.signature()
        if signature == self._signature:
            return
        self._signature = signature
        found = self._read_again(self._tls)
        if found == self._tls:
            return
        logger.info("the certificates of this client have changed: calls go by the new ones")
        before, self._tls = self._current, found
        self._current = _Opened(self._open(found))
        before.replaced = True
        if before.calls:
            self._replaced.add(before)
        else:
            self._let_go(before.channel)

    def _read_again(self, tls: TlsCredentials) -> TlsCredentials:
        try:
            found = tls.read_again()
        except ConfigurationError as error:
            # A file that is being written is another one at each look, and wrong in one way.
            if str(error) != self._told:
                logger.warning("%s; what was read before stays in use", error)
            self._told = str(error)
            return tls
        self._told = ""
        return found

    def _let_go(self, channel: Any) -> None:
        # Not where a call has ended: that may be a thread of gRPC's, which closing waits for.
        threading.Thread(target=channel.close, name="towline-close", daemon=True).start()

    def _close(self) -> list[Any]:
        """Return what is open. Nothing is opened from here on."""
        with self._lock:
            self._closed = True
            return [opened.channel for opened in (self._current, *self._replaced)]


class RenewingAioChannel(RenewingChannel):
    """A grpc.aio.Channel in all but its class, for the event loop in which it is made."""

    def __init__(self, tls: TlsCredentials, open_: Open) -> None:
        #: Channels that are being closed.
        self._closing: set[asyncio.Task[None]] = set()
        super().__init__(tls, open_)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:  # type: ignore[override]  # as in aio
        for channel in self._close():
            await channel.close(grace)
        await asyncio.gather(*self._closing)

    def _method(self, kind: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return _AioMethod(self, kind, args, options)

    def _let_go(self, channel: Any) -> None:
        task = asyncio.get_running_loop().create_task(channel.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Method:
    """A method of a service, at whichever channel is the current one."""

    def __init__(
        self, owner: RenewingChannel, kind: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._owner = owner
        self._kind = kind
        self._args = args
        self._options = options
        self._made: tuple[_Opened, Any] | None = None

    def at(self, opened: _Opened) -> Any:
        made = self._made
        if made is None or made[0] is not opened:
            method = getattr(opened.channel, self._kind)(*self._args, **self._options)
            made = self._made = (opened, method)
        return made[1]

    def __call__(self, *args: Any, **options: Any) -> Any:
        if self._kind.endswith("_stream"):
            return self._started(lambda method: method(*args, **options), "add_callback")
        opened = self._owner.begin()
        try:
            return self.at(opened)(*args, **options)
        finally:
            self._owner.end(opened)

    def with_call(self, *args: Any, **options: Any) -> Any:
        opened = self._owner.begin()
        try:
            return self.at(opened).with_call(*args, **options)
        finally:
            self._owner.end(opened)

    def future(self, *args: Any, **options: Any) -> Any:
        return self._started(lambda method: method.future(*args, **options), "add_done_callback")

    def _started(self, start: Callable[[Any], Any], tell_by: str) -> Any:
        """A call that goes on after this: it tells by the method of that name when it is over."""
        opened = self._owner.begin()
        try:
            call = start(self.at(opened))
        except BaseException:
            self._owner.end(opened)
            raise
        # gRPC says False where the call is over already.
        if getattr(call, tell_by)(lambda *_: self._owner.end(opened)) is False:
            self._owner.end(opened)
        return call


class _AioMethod(_Method):
    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._started(lambda method: method(*args, **options), "add_done_callback")
