"""What a Push comes to, worked out before anything is stored."""

from collections import Counter

from towline_broker.domain.errors import QueueFull, QueueMoved
from towline_broker.domain.jobs import NewJob
from towline_broker.drivers.interface import PushBatch, PushOutcome, PushResult
from towline_broker.drivers.memory.records import cost_of
from towline_broker.drivers.memory.state import State


class PushPlan:
    """Places the jobs of one batch one after the other, each as if those before it were stored."""

    def __init__(self, state: State, batch: PushBatch) -> None:
        self._state = state
        self._batch = batch
        self._ids: set[str] = set()
        self._keys: dict[tuple[str, str], str] = {}
        self._depth: Counter[str] = Counter()
        #: The jobs to store, in their order.
        self.created: list[NewJob] = []
        #: About how many bytes they will take.
        self.size = 0

    def place(self, new: NewJob) -> PushResult:
        """Raises QueueMoved, and QueueFull if the batch is to be stored as a whole or not at
        all."""
        queue = self._state.queues.get(new.queue)
        if queue is not None and queue.moved:
            raise QueueMoved(new.queue, queue.moving_to)
        existing = self._existing(new)
        if existing is not None:
            return PushResult(existing, PushOutcome.EXISTING)
        limit = self._batch.max_depth.get(new.queue)
        if limit is not None and self._live(new.queue) >= limit:
            if self._batch.all_or_nothing:
                raise QueueFull(new.queue, limit)
            return PushResult(new.id, PushOutcome.QUEUE_FULL)
        self._create(new)
        return PushResult(new.id, PushOutcome.CREATED)

    def _existing(self, new: NewJob) -> str | None:
        state = self._state
        if new.id in self._ids or new.id in state.jobs or new.id in state.memory:
            return new.id
        if new.unique_key is None:
            return None
        return self._keys.get((new.queue, new.unique_key)) or state.keys.holder(
            new.queue, new.unique_key, self._batch.now
        )

    def _live(self, name: str) -> int:
        queue = self._state.queues.get(name)
        return self._depth[name] + (queue.live if queue is not None else 0)

    def _create(self, new: NewJob) -> None:
        self._ids.add(new.id)
        self._depth[new.queue] += 1
        if new.unique_key is not None and (
            new.unique_until is None or new.unique_until > self._batch.now
        ):
            self._keys[new.queue, new.unique_key] = new.id
        self.created.append(new)
        self.size += cost_of(new)
