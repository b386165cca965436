"""Telling the broker how leases ended: Acks and Nacks, in batches that form by themselves.

Outcomes wait in one line while a call is under way; whatever has gathered when it returns goes out
with the next one. Nothing waits for a batch to fill. Both calls are safe to repeat, so a batch
without an answer is sent again until there is one, or until the worker must stop.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from towline.errors import BrokerError, LeaseLost, TowlineError
from towline.v1.job_pb2 import Failure
from towline.v1.queue_service_pb2 import (
    Ack,
    AckRequest,
    LeaseOutcome,
    Nack,
    NackRequest,
    SettleResult,
)
from towline.worker import outcome
from towline.worker.errors import InvalidResult, NotSettled
from towline.worker.leases import HeldLease, LeaseTable, Settlement, outcome_name
from towline.worker.link import NOT_ALLOWED, Backoff, Link, is_final
from towline.worker.stats import Stats

logger = logging.getLogger("towline.worker")

_OK = LeaseOutcome.LEASE_OUTCOME_OK

MAX_ITEMS = 1000
MAX_BYTES = 3 * 1024 * 1024
"""Of one call, unless a single item is larger; gRPC's default limit of a message is 4 MiB."""

Item: TypeAlias = tuple[HeldLease, Settlement]


class Settler:
    """Owns one thread. ``put`` may be called from any other.

    ``send_reports`` hands the progress and checkpoint of jobs that are about to be given back to
    the broker, as far as it has not got them; it raises what calls of Link raise. ``on_change`` is
    called when leases were settled and when the thread has ended.
    """

    def __init__(
        self,
        link: Link,
        table: LeaseTable,
        stats: Stats,
        send_reports: Callable[[Sequence[HeldLease]], None],
        on_error: Callable[[BaseException], None],
        on_change: Callable[[], None],
        on_crash: Callable[[BaseException], None],
    ) -> None:
        self._link = link
        self._table = table
        self._stats = stats
        self._send_reports = send_reports
        self._on_error = on_error
        self._changed = threading.Condition()
        self._waiting: list[Item] = []
        self._closing = False
        self._abandoned = False
        self._ended = False
        self._on_change = on_change
        self._on_crash = on_crash
        self._thread = threading.Thread(target=self._run, name="towline-settle", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, held: HeldLease, settlement: Settlement) -> bool:
        """Send this outcome. False, and nothing is sent, when it was decided or lost before."""
        if not self._table.settle(held, settlement):
            return False
        self._enqueue((held, settlement))
        return True

    def close(self) -> None:
        """End the thread when everything is sent; nothing more may be put."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """End the thread even so. A call without an answer goes on until its channel is closed."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self._ended

    def _enqueue(self, item: Item) -> None:
        with self._changed:
            self._waiting.append(item)
            if len(self._waiting) == 1:  # else it is awake, or was woken by the one before
                self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._on_crash(error)
        finally:
            self._ended = True
            self._on_change()

    def _serve(self) -> None:
        backoff = Backoff()
        while (batch := self._next_batch()) is not None:
            try:
                self._send(batch)
            except TowlineError as error:
                if is_final(error):
                    self._refused(batch, error)
                    self._on_change()
                    continue
                self._link.failed("settling jobs", error, backoff)
                with self._changed:
                    # In front again, so that a repeated call is the same call.
                    self._waiting[:0] = batch
                self._pause(backoff.pause(error))
            else:
                backoff.reset()
                self._on_change()

    def _next_batch(self) -> list[Item] | None:
        """The next call's worth of Acks or of Nacks; None when there is nothing left to do."""
        with self._changed:
            while not (self._waiting or self._closing or self._abandoned):
                self._changed.wait()
            if not self._waiting or self._abandoned:
                return None
            kind = type(self._waiting[0][1])
            size = 0
            batch: list[Item] = []
            others: list[Item] = []
            for item in self._waiting:
                size += item[1].ByteSize() if type(item[1]) is kind else 0
                fits = not batch or (len(batch) < MAX_ITEMS and size <= MAX_BYTES)
                (batch if fits and type(item[1]) is kind else others).append(item)
            self._waiting = others
            return batch

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned, seconds)

    def _send(self, batch: Sequence[Item]) -> None:
        results: Sequence[SettleResult]
        acks = [settlement for _, settlement in batch if isinstance(settlement, Ack)]
        if acks:
            results = self._link.ack(AckRequest(acks=acks)).results
        else:
            nacks = [settlement for _, settlement in batch if isinstance(settlement, Nack)]
            self._send_reports([held for held, _ in batch])
            results = self._link.nack(NackRequest(nacks=nacks)).results
        if len(results) != len(batch):
            raise BrokerError(f"{len(batch)} outcomes were sent and {len(results)} answered")
        recorded = []
        for item, result in zip(batch, results, strict=True):
            if result.outcome == _OK:
                recorded.append(item)
            else:
                self._not_recorded(item, result)
        self._stats.recorded([settlement for _, settlement in recorded])
        self._table.settled([held for held, _ in recorded])

    def _not_recorded(self, item: Item, result: SettleResult) -> None:
        held, _ = item
        if result.outcome == LeaseOutcome.LEASE_OUTCOME_REJECTED:
            if result.error.reason == NOT_ALLOWED:
                self._give_up(held, result.error.message)
            else:
                self._rejected(item, result.error.message)
            return
        name = outcome_name(result.outcome)
        logger.warning("the outcome of %s came too late: %s", held, name)
        self._stats.count_lost()
        self._on_error(LeaseLost(f"the outcome of job {held.context.id} was not recorded: {name}"))
        self._table.settled([held])

    def _rejected(self, item: Item, why: str) -> None:
        """The broker does not take this outcome; say the nearest thing that it may take."""
        held, settlement = item
        instead: Nack | None = None
        if isinstance(settlement, Ack):
            error = InvalidResult(f"the broker refused the handler's result: {why}")
            instead = outcome.dead_letter(held.token, outcome.failure_of(error))
        elif settlement.WhichOneof("action") is not None:
            failure = Failure(type=settlement.failure.type, message=settlement.failure.message)
            instead = outcome.retry_by_policy(held.token, failure)
        if instead is None:
            self._give_up(held, why)
        else:
            logger.error("the broker refused the outcome of %s", held)
            self._table.settle_otherwise(held, instead)
            self._enqueue((held, instead))

    def _refused(self, batch: Sequence[Item], error: TowlineError) -> None:
        for held, _ in batch:
            self._give_up(held, f"{type(error).__name__}: {error}")

    def _give_up(self, held: HeldLease, why: str) -> None:
        logger.error("the broker does not record the outcome of %s", held)
        self._table.settled([held])
        self._stats.count_lost()
        self._on_error(NotSettled(held.context.id, why))
