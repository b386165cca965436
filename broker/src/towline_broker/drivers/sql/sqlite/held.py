"""Leases that were just granted, in memory: an Ack, which mostly follows soon, need not read them.

The store has one owner and one thread that changes it, so nothing comes in between unseen. Whoever
is about to change a leased job reads it by its id (``locked_of``), and from then on it is not held
here any more; nor is anything after a change was rolled back. What is not held is read.
"""

from collections.abc import Iterable, Sequence

from towline_broker.drivers.sql.transaction import Row

#: Some 10 MiB.
MOST = 20_000


class HeldLeases:
    def __init__(self, most: int = MOST) -> None:
        self._most = most
        #: By the ids of the jobs, each the columns of ``acks.HELD``.
        self._rows: dict[str, Row] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, rows: Sequence[Row]) -> None:
        if len(self._rows) + len(rows) > self._most:
            # Workers that take so long are not in a hurry.
            self._rows.clear()
        self._rows.update((row[0], row) for row in rows[: self._most])

    def take(self, ids: Iterable[str]) -> tuple[list[Row], list[str]]:
        """Those that were held, which they are no more, and the ids of the others."""
        found: list[Row] = []
        missing: list[str] = []
        rows = self._rows
        for job_id in ids:
            row = rows.pop(job_id, None)
            if row is None:
                missing.append(job_id)
            else:
                found.append(row)
        return found, missing

    def drop(self, ids: Iterable[object]) -> None:
        rows = self._rows
        for job_id in ids:
            if isinstance(job_id, str):
                rows.pop(job_id, None)

    def clear(self) -> None:
        self._rows.clear()
