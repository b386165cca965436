"""A channel each call of which carries a token.

Neither of gRPC's own ways is taken: call credentials start a thread for each call, which costs
more than the call itself, and do so over TLS only; an interceptor takes a tenth of a call's time
(docs/decisions/0031).
"""

from __future__ import annotations

from typing import Any, Self

from towline.bearer import HEADER, BearerToken, CurrentToken


class AuthorizedChannel:
    """A grpc.Channel or grpc.aio.Channel in all but its class, around another one.

    Raises ConfigurationError when the token cannot be read.
    """

    def __init__(self, channel: Any, token: BearerToken) -> None:
        self._channel = channel
        self._token = CurrentToken(token)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def unary_unary(self, *args: Any, **options: Any) -> Authorized:
        return Authorized(self._channel.unary_unary(*args, **options), self._token)

    def unary_stream(self, *args: Any, **options: Any) -> Authorized:
        return Authorized(self._channel.unary_stream(*args, **options), self._token)

    def stream_unary(self, *args: Any, **options: Any) -> Authorized:
        return Authorized(self._channel.stream_unary(*args, **options), self._token)

    def stream_stream(self, *args: Any, **options: Any) -> Authorized:
        return Authorized(self._channel.stream_stream(*args, **options), self._token)


class Authorized:
    """A method of a service, called with the token; one that the caller brings comes first."""

    def __init__(self, method: Any, token: CurrentToken) -> None:
        self._method = method
        self._token = token

    def __call__(
        self, request: Any = None, timeout: float | None = None, metadata: Any = None, **rest: Any
    ) -> Any:
        return self._method(request, timeout=timeout, metadata=self._with(metadata), **rest)

    def with_call(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any
    ) -> Any:
        return self._method.with_call(
            request, timeout=timeout, metadata=self._with(metadata), **rest
        )

    def future(
        self, request: Any, timeout: float | None = None, metadata: Any = None, **rest: Any
    ) -> Any:
        return self._method.future(request, timeout=timeout, metadata=self._with(metadata), **rest)

    def _with(self, metadata: Any) -> tuple[tuple[str, Any], ...]:
        if not metadata:
            return (self._token.header(),)
        given = tuple(metadata)
        if any(key.lower() == HEADER for key, _ in given):
            return given
        return (*given, self._token.header())
