"""Dispatching when a session of SQLAlchemy's commits: ``pip install towline[sqlalchemy]``.

    from towline.contrib.sqlalchemy import dispatch_on_commit

    with Session(engine) as session, session.begin():
        session.add(order)
        dispatch_on_commit(session, SendReceipt(order_id=order.id))

The same with an AsyncSession, by an AsyncClient. The jobs of a transaction are pushed together
after its COMMIT. If the process dies between the two, or the broker stays away, the order is there
and the jobs are not; docs/dispatch.md tells what to do where that matters.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, overload

from towline.aio import AsyncClient
from towline.client import Client
from towline.errors import ConfigurationError, InvalidJob
from towline.handles import AsyncJobHandle, JobHandle
from towline.named import clients
from towline.requests import Data, PreparedJob

try:
    from sqlalchemy import event
    from sqlalchemy.orm import Session, SessionTransaction, scoped_session
    from sqlalchemy.util import await_only
except ImportError as error:
    raise ConfigurationError(
        "towline.contrib.sqlalchemy needs SQLAlchemy 2: pip install 'towline[sqlalchemy]'"
    ) from error

if TYPE_CHECKING:  # it cannot be imported without greenlet, which only async sessions need
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

__all__ = ["dispatch_on_commit"]

_KEY = "towline.contrib.sqlalchemy"


@overload
def dispatch_on_commit(
    session: Session | scoped_session[Any],
    job: object,
    data: Data | None = None,
    /,
    *,
    client: Client | None = None,
    **arguments: Any,
) -> JobHandle: ...


@overload
def dispatch_on_commit(
    session: AsyncSession | async_scoped_session[Any],
    job: object,
    data: Data | None = None,
    /,
    *,
    client: AsyncClient | None = None,
    **arguments: Any,
) -> AsyncJobHandle: ...


def dispatch_on_commit(
    session: object,
    job: object,
    data: Data | None = None,
    /,
    *,
    client: Any = None,
    **arguments: Any,
) -> JobHandle | AsyncJobHandle:
    """Dispatch a job when the transaction of a session commits; takes no await in any case.

    It is checked and encoded now, and forgotten if the transaction, or the savepoint in which this
    was called, is rolled back, or the session closed. Like an added object it begins a transaction
    where there is none. Returns the job's handle; the job is there once it was pushed.

    ``job``, ``data`` and ``arguments`` are those of Client.dispatch. ``client`` is the default one
    (towline.clients) unless given: an AsyncClient for an AsyncSession.

    Raises InvalidJob and InvalidPayload. What the push raises comes out of ``commit()``, with a
    note that the transaction is committed.
    """
    sync_session, is_async = _session(session)
    kind: type[Client] | type[AsyncClient] = AsyncClient if is_async else Client
    if client is None:
        client = clients.for_asyncio() if is_async else clients.default
    if not isinstance(client, kind):
        raise InvalidJob(
            f"client: a session of this kind goes with {kind.__name__}, "
            f"got a {type(client).__name__}"
        )
    prepared = client.prepare(job, data, **arguments)
    _pending(sync_session).add(client, prepared)
    return client.handle(prepared.id)


def _session(session: object) -> tuple[Session, bool]:
    """The session that has the events, and whether it belongs to an async one."""
    if isinstance(session, scoped_session):
        session = session()
    if asynchronous := sys.modules.get("sqlalchemy.ext.asyncio"):  # else there is no such session
        if isinstance(session, asynchronous.async_scoped_session):
            session = session()
        if isinstance(session, asynchronous.AsyncSession):
            return session.sync_session, True
    if isinstance(session, Session):
        return session, False
    raise InvalidJob(f"session: expected one of SQLAlchemy's, got a {type(session).__name__}")


def _pending(session: Session) -> _Pending:
    pending = session.info.get(_KEY)
    if not isinstance(pending, _Pending):
        pending = session.info[_KEY] = _Pending(session)
    return pending


class _Pending:
    """The jobs of one session that wait for a commit, each with the transaction it belongs to."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._jobs: list[tuple[SessionTransaction, Client | AsyncClient, PreparedJob]] = []
        self._committed: set[SessionTransaction] = set()
        event.listen(session, "after_commit", self._after_commit)
        event.listen(session, "after_transaction_end", self._after_end)

    def add(self, client: Client | AsyncClient, job: PreparedJob) -> None:
        self._jobs.append((self._current(), client, job))

    def _current(self) -> SessionTransaction:
        session = self._session
        return session.get_nested_transaction() or session.get_transaction() or session.begin()

    def _after_commit(self, session: Session) -> None:
        self._committed.add(self._current())

    def _after_end(self, session: Session, transaction: SessionTransaction) -> None:
        """The transaction is over: pushed, handed on to the one around it, or forgotten."""
        committed = transaction in self._committed
        self._committed.discard(transaction)
        ended = [entry for entry in self._jobs if entry[0] is transaction]
        self._jobs = [entry for entry in self._jobs if entry[0] is not transaction]
        if not ended or not committed:
            return
        if transaction.nested:
            outer = _around(transaction)
            self._jobs += [(outer, client, job) for _, client, job in ended]
        else:
            _push([(client, job) for _, client, job in ended])


def _around(savepoint: SessionTransaction) -> SessionTransaction:
    """The savepoint or the transaction around a savepoint."""
    outer = savepoint
    while outer.parent is not None:
        outer = outer.parent
        if outer.nested:  # what else is inside of another is only the mark of a flush
            break
    return outer


def _push(jobs: list[tuple[Client | AsyncClient, PreparedJob]]) -> None:
    while jobs:
        client = jobs[0][0]
        together = [job for other, job in jobs if other is client]
        try:
            if isinstance(client, AsyncClient):
                await_only(client.dispatch_batch(together))
            else:
                client.dispatch_batch(together)
        except Exception as error:
            ids = ", ".join(job.id for job in together[:10])
            error.add_note(
                f"The transaction is committed; {len(together)} jobs of it were to be dispatched "
                f"and may not be: {ids}{', ...' if len(together) > 10 else ''}"
            )
            raise
        jobs = [entry for entry in jobs if entry[0] is not client]
