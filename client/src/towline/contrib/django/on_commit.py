"""Dispatching when a transaction commits.

    from towline.contrib.django import dispatch_on_commit

    with transaction.atomic():
        order.save()
        dispatch_on_commit(SendReceipt(order_id=order.pk))

The job is pushed after the COMMIT. If the process dies between the two, or the broker stays away,
the order is there and the job is not; docs/dispatch.md tells what to do where that matters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import transaction  # type: ignore[import-untyped]  # Django has none

from towline.named import clients

if TYPE_CHECKING:  # a project that has the app installed loads gRPC when it dispatches
    from towline.client import Client
    from towline.handles import JobHandle
    from towline.requests import Data, Dispatchable


def dispatch_on_commit(
    job: object,
    data: Data | None = None,
    /,
    *,
    client: Client | None = None,
    using: str | None = None,
    robust: bool = False,
    **arguments: Any,
) -> JobHandle:
    """Dispatch a job when the transaction commits, or at once where there is none.

    It is checked and encoded now, and never pushed if the transaction, or the savepoint in which
    this was called, is rolled back. Returns its handle; the job is there once it was pushed.

    ``job``, ``data`` and ``arguments`` are those of Client.dispatch; ``client`` is the default one
    (towline.clients) unless given; ``using`` and ``robust`` are those of transaction.on_commit:
    with ``robust``, Django logs what the push raises and runs the other callbacks of the commit.

    Raises InvalidJob and InvalidPayload, and what ``dispatch`` raises where it dispatches at once.
    """
    by = clients.default if client is None else client
    prepared = by.prepare(job, data, **arguments)

    def dispatch() -> None:
        by.dispatch(prepared)

    transaction.on_commit(dispatch, using=using, robust=robust)
    return by.handle(prepared.id)


def dispatch_batch_on_commit(
    jobs: Iterable[Dispatchable],
    *,
    client: Client | None = None,
    using: str | None = None,
    robust: bool = False,
    **options: Any,
) -> list[JobHandle]:
    """dispatch_on_commit for many jobs, which are pushed by Client.dispatch_batch."""
    by = clients.default if client is None else client
    prepared = [by.prepare(job, **options) for job in jobs]

    def dispatch() -> None:
        by.dispatch_batch(prepared)

    transaction.on_commit(dispatch, using=using, robust=robust)
    return [by.handle(each.id) for each in prepared]
