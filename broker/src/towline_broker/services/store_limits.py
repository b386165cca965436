"""What a pushed job may not ask for, because the store of its queue does not offer it.

Refused before anything is stored, field by field, as wrong values are: a store that quietly left a
priority or a delay aside would break a promise.
"""

from collections.abc import Callable

from towline_broker.core.calls import JobRequest
from towline_broker.domain.time import Micros
from towline_broker.drivers.interface import Capabilities, Feature
from towline_broker.services.checks import Checks
from towline_broker.services.times import in_words


class StoreLimits:
    """For the jobs of one call: each queue's store is asked for once."""

    __slots__ = ("_capabilities_of", "_limited")

    def __init__(self, capabilities_of: Callable[[str], Capabilities]) -> None:
        self._capabilities_of = capabilities_of
        #: None: the store of this queue offers everything.
        self._limited: dict[str, Capabilities | None] = {}

    def everything(self, queue: str) -> bool:
        """Whether its store offers all that can be asked for."""
        return self._of(queue) is None

    def check(self, request: JobRequest, path: str, now: Micros, checks: Checks) -> None:
        store = self._of(request.queue)
        if store is not None:
            _check_features(request, path, store, checks)
            _check_bounds(request, path, now, store, checks)

    def _of(self, queue: str) -> Capabilities | None:
        try:
            return self._limited[queue]
        except KeyError:
            offered = self._capabilities_of(queue)
            store = self._limited[queue] = None if offered.everything else offered
            return store


def _check_features(request: JobRequest, path: str, store: Capabilities, checks: Checks) -> None:
    asked = (
        (Feature.PRIORITY, request.priority != 0, "priority", "leave it at 0"),
        (Feature.UNIQUE_KEYS, request.unique_key is not None, "unique_key", "leave it empty"),
        (Feature.EXPIRY, request.expires_in is not None, "expires_in", "leave it unset"),
        (Feature.RETENTION, request.retention > 0, "retention", "leave it unset"),
    )
    for feature, wanted, field, instead in asked:
        if wanted and feature in store.missing:
            lack = f"a store of the kind {store.name} does not offer {feature.value}"
            checks.wrong(f"{path}.{field}", f"{lack}; {instead}, or {_elsewhere(request)}")


def _check_bounds(
    request: JobRequest, path: str, now: Micros, store: Capabilities, checks: Checks
) -> None:
    most, size = store.max_delay, store.max_envelope
    if most is not None:
        bound = f"a store of the kind {store.name} keeps a delay of at most {in_words(most)}"
        way_out = f"ask for less, or {_elsewhere(request)}"
        if request.delay is not None and request.delay > most:
            checks.wrong(f"{path}.delay", f"is {in_words(request.delay)}; {bound}; {way_out}")
        if request.run_at is not None and request.run_at > now + most:
            ahead = in_words(request.run_at - now)
            checks.wrong(f"{path}.run_at", f"is {ahead} ahead; {bound}; {way_out}")
    if size is not None and len(request.envelope) > size:
        checks.wrong(
            f"{path}.payload",
            f"the job has {len(request.envelope)} bytes with all its fields; a store of the kind "
            f"{store.name} keeps at most {size}; send less, or {_elsewhere(request)}",
        )


def _elsewhere(request: JobRequest) -> str:
    return f"map queue {request.queue!r} to another store"
