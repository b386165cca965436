"""What is dispatched in a session of SQLAlchemy's is pushed by its commit, and only by that."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

import towline
from tests.sdk.scripted_broker import Failure, ScriptedBroker, invalid
from towline import AsyncClient, Client, InvalidArgument, InvalidJob, InvalidPayload, Job, Registry
from towline.contrib.sqlalchemy import dispatch_on_commit


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class SendReceipt(Job, registry=Registry()):
    order: int


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path}/orders.db")

    # As SQLAlchemy's documentation has it: Python's sqlite3 would begin too late for savepoints.
    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def orders(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return sorted(connection.scalars(select(Order.id)))


class Undone(Exception):
    pass


def dispatch_and_fail(session: Session, job: Job, client: Client) -> None:
    dispatch_on_commit(session, job, client=client)
    raise Undone


def receipts(broker: ScriptedBroker) -> list[bytes]:
    return [info.job.payload for info in broker.jobs.values()]


def test_a_commit_pushes_all_of_its_jobs_in_one_call(
    engine: Engine, broker: ScriptedBroker, client: Client
) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        handles = [dispatch_on_commit(session, SendReceipt(order=n), client=client) for n in (1, 2)]
        session.flush()
        assert broker.calls == []
        session.commit()
        assert [handle.id for handle in handles] == list(broker.jobs)
        assert receipts(broker) == [b'{"order":1}', b'{"order":2}']
        assert len(broker.called("Push")) == 1
        session.commit()
    assert len(broker.called("Push")) == 1, "each is pushed once"


def test_a_rollback_forgets_them(engine: Engine, broker: ScriptedBroker, client: Client) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        dispatch_on_commit(session, SendReceipt(order=1), client=client)
        session.rollback()
        session.commit()
        dispatch_on_commit(session, SendReceipt(order=2), client=client)  # nothing else was begun
        session.rollback()
        session.commit()
        dispatch_on_commit(session, SendReceipt(order=3), client=client)
        session.close()
        session.commit()
        with pytest.raises(Undone), session.begin():
            dispatch_and_fail(session, SendReceipt(order=4), client)
        session.commit()
    assert broker.calls == []


def test_a_commit_that_fails_pushes_nothing(
    engine: Engine, broker: ScriptedBroker, client: Client
) -> None:
    with Session(engine) as session, session.begin():
        session.add(Order(id=1))
    with Session(engine) as session:
        session.add(Order(id=1))
        dispatch_on_commit(session, SendReceipt(order=1), client=client)
        with pytest.raises(Exception, match="UNIQUE"):
            session.commit()
        session.rollback()
        session.commit()
    assert broker.calls == []


def test_a_savepoint_takes_its_own_jobs_with_it_and_no_others(
    engine: Engine, broker: ScriptedBroker, client: Client
) -> None:
    with Session(engine) as session:

        def dispatch(order: int) -> None:
            session.add(Order(id=order))
            dispatch_on_commit(session, SendReceipt(order=order), client=client)

        dispatch(1)
        with session.begin_nested():
            dispatch(2)
            lost = session.begin_nested()
            dispatch(3)
            with session.begin_nested():
                dispatch(4)
            lost.rollback()
            with session.begin_nested():
                dispatch(5)
        kept_by_the_commit = session.begin_nested()
        dispatch(6)
        assert broker.calls == []
        session.commit()
        assert not kept_by_the_commit.is_active
        outer = session.begin_nested()
        with session.begin_nested():
            dispatch(7)
        outer.rollback()
        session.commit()
    assert receipts(broker) == [b'{"order":%d}' % order for order in orders(engine)]
    assert sorted(receipts(broker)) == [b'{"order":%d}' % n for n in (1, 2, 5, 6)]


def test_a_listener_of_a_flush_may_dispatch(
    engine: Engine, broker: ScriptedBroker, client: Client
) -> None:
    with Session(engine) as session:

        @event.listens_for(session, "after_flush")
        def after_flush(session: Session, context: Any) -> None:
            for order in session.new:
                dispatch_on_commit(session, SendReceipt(order=order.id), client=client)

        session.add(Order(id=1))
        session.flush()
        with session.begin_nested() as savepoint:
            session.add(Order(id=2))
            session.flush()
            savepoint.rollback()
        session.add(Order(id=3))
        session.commit()
    assert receipts(broker) == [b'{"order":1}', b'{"order":3}']


def test_a_push_that_fails_is_told_and_leaves_the_session_usable(
    engine: Engine, broker: ScriptedBroker, client: Client
) -> None:
    with Session(engine) as session:
        session.add(Order(id=1))
        handle = dispatch_on_commit(session, SendReceipt(order=1), client=client)
        broker.failures["Push"] = [invalid(("jobs[0].payload", "too large"))]
        with pytest.raises(InvalidArgument) as caught:
            session.commit()
        assert caught.value.__notes__ == [
            "The transaction is committed; 1 jobs of it were to be dispatched and may not be: "
            + handle.id
        ]
        assert orders(engine) == [1]
        session.add(Order(id=2))
        dispatch_on_commit(session, SendReceipt(order=2), client=client)
        session.commit()
    with Session(engine) as session:
        broker.failures["Push"] = [invalid(("jobs[0].payload", "too large"))]
        session.add(Order(id=3))
        dispatch_on_commit(session, SendReceipt(order=3), client=client)
        with pytest.raises(InvalidArgument), session.get_transaction():  # type: ignore[union-attr]
            pass
        assert session.scalars(select(Order.id)).all() == [1, 2, 3]
    assert receipts(broker) == [b'{"order":2}']


def test_what_cannot_be_dispatched_is_refused_where_it_is_said(
    engine: Engine, broker: ScriptedBroker, client: Client
) -> None:
    with Session(engine) as session:
        with pytest.raises(InvalidPayload, match=r"SendReceipt\.order: expected int"):
            dispatch_on_commit(session, SendReceipt(order="1"), client=client)  # type: ignore[arg-type]
        with pytest.raises(InvalidJob, match="there is no option 'dealy'"):
            dispatch_on_commit(session, SendReceipt(order=1), client=client, dealy=5)
        with pytest.raises(InvalidJob, match="goes with Client, got a AsyncClient"):
            dispatch_on_commit(session, "x", client=AsyncClient(broker.address))  # type: ignore[call-overload]
        with pytest.raises(InvalidJob, match="session: expected one of SQLAlchemy's, got a Engine"):
            dispatch_on_commit(engine, "x", client=client)  # type: ignore[call-overload]
        session.commit()
    assert broker.calls == []


def test_sessions_of_threads_and_the_default_client_serve_as_well(
    engine: Engine, broker: ScriptedBroker
) -> None:
    session = scoped_session(sessionmaker(engine))
    with towline.clients.using(broker.address):
        dispatch_on_commit(session, SendReceipt(order=1), delay=5)
        session.commit()
    session.remove()
    [info] = broker.jobs.values()
    assert info.job.delay.seconds == 5


class TestAsyncSessions:
    async def test_they_push_with_their_commit(
        self, tmp_path: Path, broker: ScriptedBroker, async_client: AsyncClient
    ) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/orders.db")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.001)
                ticks += 1

        ticking = asyncio.create_task(tick())
        async with AsyncSession(engine) as session:
            await session.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
            session.add(Order(id=1))
            handle = dispatch_on_commit(session, SendReceipt(order=1), client=async_client)
            dispatch_on_commit(session, SendReceipt(order=2), client=async_client)
            assert broker.calls == []
            broker.hold.clear()
            commit = asyncio.create_task(session.commit())
            await asyncio.to_thread(broker.until_called, "Push", 1)
            before = ticks
            await asyncio.sleep(0.05)
            assert ticks > before, "the loop goes on while the jobs are pushed"
            broker.hold.set()
            await commit
            assert (await handle.status()).id == handle.id
            assert len(broker.called("Push")) == 1
            dispatch_on_commit(session, SendReceipt(order=3), client=async_client)
            await session.rollback()
            await session.commit()
        assert receipts(broker) == [b'{"order":1}', b'{"order":2}']
        ticking.cancel()
        await engine.dispose()

    async def test_a_push_that_fails_is_told(
        self, tmp_path: Path, broker: ScriptedBroker, async_client: AsyncClient
    ) -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/orders.db")
        async with AsyncSession(engine) as session:
            dispatch_on_commit(session, SendReceipt(order=1), client=async_client)
            broker.failures["Push"] = [Failure(grpc.StatusCode.PERMISSION_DENIED, "no")]
            with pytest.raises(towline.PermissionDenied) as caught:
                await session.commit()
            assert caught.value.__notes__[0].startswith("The transaction is committed; 1 jobs")
            dispatch_on_commit(session, SendReceipt(order=2), client=async_client)
            await session.commit()
        assert receipts(broker) == [b'{"order":2}']
        await engine.dispose()


WITHOUT_GREENLET = """
import sys
sys.modules["greenlet"] = None  # as where SQLAlchemy is installed and greenlet is not
from sqlalchemy import create_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from towline import Client
from towline.contrib.sqlalchemy import dispatch_on_commit
engine = create_engine("sqlite://")
client = Client("sync://")
for session in (Session(engine), scoped_session(sessionmaker(engine))):
    handle = dispatch_on_commit(session, "SendReceipt", {"order": 1}, client=client)
    session.commit()
    print(handle.status().state.value)
    session.close()
"""


def test_a_session_that_is_not_async_needs_no_greenlet() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_GREENLET], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split() == ["READY", "READY"], ran.stderr
