"""Whether the store can still be relied on."""

from towline_broker.domain.errors import StoreFailed


class Health:
    """Sound until a thread of the store meets a failure, and never again after that."""

    def __init__(self) -> None:
        self._failure: str | None = None

    @property
    def sound(self) -> bool:
        return self._failure is None

    def check(self) -> None:
        """Raises StoreFailed if the store has failed before."""
        if self._failure is not None:
            raise StoreFailed(self._failure)

    def note(self, error: Exception) -> None:
        """Remembers the error if it is one that ends the store."""
        if isinstance(error, StoreFailed) and self._failure is None:
            self._failure = str(error)
