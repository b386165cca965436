"""Clients by name, and one of them that dispatches when none is named: ``towline.clients``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from towline.errors import ConfigurationError
from towline.forks import in_forked_children

if TYPE_CHECKING:
    from towline.aio import AsyncClient
    from towline.client import Client
    from towline.transport import Address

DEFAULT = "default"


class _Named:
    """How to reach a broker, and the clients that were made when they were first asked for."""

    def __init__(self, address: Address | None, options: dict[str, Any]) -> None:
        self._address = address
        self._options = options
        self._client: Client | None = None
        self._async_client: AsyncClient | None = None

    @property
    def options_elsewhere(self) -> dict[str, Any]:
        """The options that hold for any broker."""
        proofs = ("credentials", "token")
        return {name: value for name, value in self._options.items() if name not in proofs}

    def for_threads(self) -> Client:
        from towline.client import Client

        if self._client is None:
            self._client = Client(self._address, **self._options)
        return self._client

    def for_asyncio(self) -> AsyncClient:
        from towline.aio import AsyncClient

        if self._async_client is None:
            self._async_client = AsyncClient(self._address, **self._options)
        return self._async_client

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


class Clients:
    """Clients of this process by name. Safe from any thread.

        towline.clients.add("default", "dns:///brokers:7480")
        towline.clients.add("reports", "reports-broker:7480", call_timeout=30)

        SendEmail(to="a@b.c").dispatch()                       # by the default one
        towline.clients["reports"].dispatch(BuildReport(...))  # a Client
        await towline.clients.for_asyncio("reports").dispatch(...)

    A client is made when it is first asked for. "default" is there from the start, with the address
    that TOWLINE_URL names.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        in_forked_children(self._forked)
        self._named = {DEFAULT: _Named(None, {})}
        self._default = DEFAULT

    def __repr__(self) -> str:
        return f"<clients {', '.join(self)}; the default is {self._default}>"

    def __iter__(self) -> Iterator[str]:
        """The names that there are, sorted."""
        return iter(sorted(self._named))

    def __len__(self) -> int:
        return len(self._named)

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def __getitem__(self, name: str) -> Client:
        """Return the Client of a name. Raises ConfigurationError if there is none."""
        with self._lock:
            return self._find(name).for_threads()

    def for_asyncio(self, name: str | None = None) -> AsyncClient:
        """Return the AsyncClient of a name; None: of the default. Raises as ``[]`` does."""
        with self._lock:
            return self._find(self._default if name is None else name).for_asyncio()

    def add(self, name: str, address: Address | None = None, **options: Any) -> None:
        """Say where the broker of a name is; ``address`` and ``options`` are those of Client.

        A name that is taken is given anew; clients that were made of it before stay open. Raises
        ConfigurationError for what is no name; a wrong address is told when the client is made.
        """
        given: object = name
        if not isinstance(given, str) or not given:
            raise ConfigurationError(f"name: expected a string that is not empty, got {name!r}")
        with self._lock:
            self._named[name] = _Named(address, options)

    @property
    def default(self) -> Client:
        """The Client that dispatches when none is named."""
        return self[self._default]

    @property
    def default_name(self) -> str:
        """Its name. Setting it makes another the default; raises ConfigurationError."""
        return self._default

    @default_name.setter
    def default_name(self, name: str) -> None:
        with self._lock:
            self._find(name)
            self._default = name

    @contextmanager
    def using(self, address: Address | None = None, **options: Any) -> Iterator[Client]:
        """Reach another broker by the default name in here, as tests do; yields its Client.

            with towline.clients.using("memory://") as client: ...

        Options that are not given stay as they are, such as middleware and serializer; not the
        credentials and the token, which belong to an address.
        """
        with self._lock:
            name = self._default
            before = self._named[name]
        named = _Named(address, {**before.options_elsewhere, **options})
        client = named.for_threads()
        with self._lock:
            self._named[name] = named
        try:
            yield client
        finally:
            with self._lock:
                self._named[name] = before
            named.close()

    def close(self) -> None:
        """Close every Client that was made; one that is asked for again is made anew."""
        with self._lock:
            for named in self._named.values():
                named.close()

    def _forked(self) -> None:
        self._lock = threading.Lock()

    def _find(self, name: str) -> _Named:
        try:
            return self._named[name]
        except KeyError:
            raise ConfigurationError(
                f"there is no client {name!r}; there are {', '.join(self)}: "
                f"add it by towline.clients.add({name!r}, address)"
            ) from None


clients = Clients()
"""Those of this process."""
