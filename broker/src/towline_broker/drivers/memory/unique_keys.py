"""Which job holds which unique key, some for a time of their own."""

from towline_broker.domain.time import Micros
from towline_broker.drivers.memory.changes import Changes
from towline_broker.drivers.memory.lines import Agenda


class UniqueKeys:
    """Which job holds which key of which queue."""

    def __init__(self) -> None:
        #: (queue, key) to the holder's id and the time until which it is held whatever happens.
        self._held: dict[tuple[str, str], tuple[str, Micros | None]] = {}
        self._until: Agenda[tuple[str, str]] = Agenda()
        self.changes: Changes | None = None

    def holder(self, queue: str, key: str, now: Micros) -> str | None:
        held = self._held.get((queue, key))
        if held is None or (held[1] is not None and held[1] <= now):
            return None
        return held[0]

    def held(self, queue: str, key: str) -> tuple[str, Micros | None] | None:
        """Who holds it, and until when if it is for a time of its own, whether that is over or
        not."""
        return self._held.get((queue, key))

    def restore(self, queue: str, key: str, holder: str | None, until: Micros | None) -> None:
        if holder is not None:
            self.take(queue, key, holder, until)
        elif self._held.pop((queue, key), None) is not None:
            self._until.discard((queue, key))

    def is_held_by(self, queue: str, key: str, job_id: str) -> bool:
        """Whether its time is over or not."""
        held = self._held.get((queue, key))
        return held is not None and held[0] == job_id

    def take(self, queue: str, key: str, job_id: str, until: Micros | None) -> None:
        self._held[queue, key] = (job_id, until)
        if until is None:
            self._until.discard((queue, key))
        else:
            self._until.set((queue, key), until)
        self._note(queue, key)

    def job_ended(self, queue: str, key: str, job_id: str) -> None:
        """Frees the key, unless it is held for a time of its own or by another job by now."""
        if self._held.get((queue, key)) == (job_id, None):
            del self._held[queue, key]
            self._note(queue, key)

    def free(self, queue: str, key: str, job_id: str) -> None:
        """Frees the key, unless it is held by another job by now."""
        held = self._held.get((queue, key))
        if held is not None and held[0] == job_id:
            del self._held[queue, key]
            self._until.discard((queue, key))
            self._note(queue, key)

    def forget(self, now: Micros, limit: int) -> int:
        past = self._until.take_due(now, limit)
        for name in past:
            del self._held[name]
            self._note(*name)
        return len(past)

    def _note(self, queue: str, key: str) -> None:
        if self.changes is not None:
            self.changes.keys[queue, key] = None
