"""Workers as all brokers on one store know them.

Every broker puts up a notice in the store they share: the workers it has heard of, and what
operators have told workers by way of it. Each reads the notices of the others every second or so,
and at once when somebody asks. A store that only one broker may use has no part in this.
"""

import json
import logging
import secrets
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from towline_broker.core.calls import Directive, WorkerKey, WorkerView
from towline_broker.core.following import is_about_the_clock
from towline_broker.core.settings import CoreSettings
from towline_broker.core.stores import Store
from towline_broker.core.workers import Workers
from towline_broker.domain.errors import StoreError
from towline_broker.domain.events import event
from towline_broker.domain.time import SECOND, Micros

log = logging.getLogger("towline.broker")

#: Between two looks at the notices of others.
INTERVAL: Micros = 1 * SECOND
#: A notice stands for so long without its broker.
TERM: Micros = 15 * SECOND
#: With more workers than these a notice is put up more seldom: every 10 s.
MANY = 1_000
SELDOM = 10
#: A notice of more than this, unpacked, is none of ours: 100,000 workers fit in.
MOST_BYTES = 64 * 1024 * 1024

#: What workers were told, and when.
Directives: TypeAlias = dict[WorkerKey, tuple[Directive, Micros]]


class Peers:
    def __init__(self, store: Store, workers: Workers, settings: CoreSettings) -> None:
        self._store = store
        self._workers = workers
        self._memory = settings.worker_memory
        self._id = secrets.token_hex(8)
        self._others: list[_Notice] = []
        #: What operators told workers by way of this broker, and when.
        self._directives: Directives = {}
        self._rounds = 0
        #: Brokers whose notices could not be read, told of once.
        self._unreadable: set[str] = set()

    @property
    def shared(self) -> bool:
        """Whether there can be other brokers."""
        return self._store.capabilities.shared

    async def round(self) -> None:
        """One look at the others. Raises StoreError."""
        if self._rounds % SELDOM == 0 or self._workers.count() <= MANY:
            await self._post()
        self._rounds += 1
        await self._look()

    async def leave(self) -> None:
        """Takes the notice down."""
        if self.shared:
            try:
                await self._store.driver.post(self._id, b"", self._store.clock.now())
            except StoreError as error:
                log.debug("the notice of this broker stays until it is too old: %s", error)

    async def views(self) -> list[WorkerView]:
        """Workers that any broker has heard of, by id. Raises StoreError."""
        if self.shared:
            await self._look()
        known: dict[WorkerKey, WorkerView] = {}
        horizon = self._store.clock.now() - self._memory
        for view in (*self._workers.views(), *self._told()):
            if view.last_seen > horizon:
                known[view.key] = _merged(known.get(view.key), view)
        return [known[key] for key in sorted(known)]

    def count(self) -> int:
        """As many workers as :meth:`views` would name, by what is known of the others already."""
        horizon = self._store.clock.now() - self._memory
        others = (view.key for view in self._told() if view.last_seen > horizon)
        return len({*self._workers.keys(), *others})

    async def direct(self, workers: Sequence[WorkerKey], directive: Directive) -> None:
        """Whichever broker they call. Raises StoreError."""
        for key in workers:
            self._workers.direct(key, directive)
        if self.shared:
            self._directives |= dict.fromkeys(workers, (directive, self._store.clock.now()))
            await self._post()

    def _told(self) -> Iterable[WorkerView]:
        for notice in self._others:
            yield from notice.workers

    async def _post(self) -> None:
        now = self._store.clock.now()
        past = now - self._memory
        self._directives = {key: told for key, told in self._directives.items() if told[1] > past}
        notice = _written(self._workers.views(), self._directives)
        await self._store.driver.post(self._id, notice, now + TERM)

    async def _look(self) -> None:
        notices = await self._store.driver.notices(self._store.clock.now())
        self._unreadable &= notices.keys()
        self._others = [
            read
            for broker_id, notice in notices.items()
            if broker_id != self._id
            and not is_about_the_clock(broker_id)
            and (read := self._read(broker_id, notice))
        ]
        latest = dict(self._directives)
        for notice in self._others:
            for key, told in notice.directives.items():
                if key not in latest or told[1] > latest[key][1]:
                    latest[key] = told
        for key, (directive, _) in latest.items():
            self._workers.direct(key, directive)

    def _read(self, broker_id: str, notice: bytes) -> "_Notice | None":
        """None for one that this release cannot read: it must not keep us from those of others."""
        try:
            read = _read(notice)
        except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as error:
            if broker_id not in self._unreadable:
                log.warning(
                    "the notice of broker %s cannot be read, and is passed over: %s",
                    *(broker_id, type(error).__name__),
                    extra=event(
                        "notice_unreadable",
                        store=self._store.name,
                        broker=broker_id,
                        reason=type(error).__name__,
                    ),
                )
            self._unreadable.add(broker_id)
            return None
        self._unreadable.discard(broker_id)
        return read


class _Notice:
    __slots__ = ("directives", "workers")

    def __init__(self, workers: list[WorkerView], directives: Directives) -> None:
        self.workers = workers
        self.directives = directives


def _written(workers: Sequence[WorkerView], directives: Directives) -> bytes:
    content = {
        "workers": [
            (*w.key, list(w.queues), w.leases, w.first_seen, w.last_seen, int(w.directive))
            for w in workers
        ],
        "directives": [(*key, *told) for key, told in directives.items()],
    }
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), level=1)


#: Of a broker that knows no worker.
EMPTY_NOTICE = _written([], {})


def _read(notice: bytes) -> _Notice:
    plain = zlib.decompressobj().decompress(notice, MOST_BYTES)
    content: dict[str, Any] = json.loads(plain)
    return _Notice(
        [
            WorkerView(WorkerKey(*key), queues, dict(held), first, last, Directive(directive))
            for *key, queues, held, first, last, directive in content["workers"]
        ],
        {
            WorkerKey(*key): (Directive(directive), at)
            for *key, directive, at in content["directives"]
        },
    )


def _merged(one: WorkerView | None, other: WorkerView) -> WorkerView:
    """One worker, as two brokers know it."""
    if one is None:
        return other
    latest = one if one.last_seen >= other.last_seen else other
    return WorkerView(
        latest.key,
        sorted({*one.queues, *other.queues}),
        Counter(one.leases) + Counter(other.leases),
        min(one.first_seen, other.first_seen),
        latest.last_seen,
        latest.directive,
    )
