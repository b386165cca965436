"""The calls of clients of ``sync://``: jobs run within the push that brings them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from towline.errors import ClientClosed, ResultTimeout
from towline.status import read_info
from towline.v1 import job_pb2, queue_service_pb2
from towline.v1.admin_service_pb2 import StatsRequest, StatsResponse
from towline.worker import inline
from towline.worker.attempt import Attempt

if TYPE_CHECKING:
    from towline.transport.sync.broker import SyncBroker

LOOK_AGAIN = 0.005
"""Seconds after which a task that awaits a job of another task looks at it again."""


class SyncTransport:
    """Transport: runs jobs in the thread that dispatches them."""

    def __init__(self, broker: SyncBroker) -> None:
        self._broker = broker
        self._closed = False

    def push(
        self, request: queue_service_pb2.PushRequest, timeout: float
    ) -> queue_service_pb2.PushResponse:
        self._check_open()
        response, new = self._broker.push(request, in_loop=False)
        with self._broker.dispatching():
            for job_id in new:
                for step in self._broker.steps(job_id):
                    if isinstance(step, Attempt):
                        inline.run(step)
                    else:
                        time.sleep(step)
        return response

    def get_job(
        self, request: queue_service_pb2.GetJobRequest, timeout: float
    ) -> queue_service_pb2.GetJobResponse:
        self._check_open()
        ledger, wait = self._broker.ledger, request.wait.ToTimedelta().total_seconds()
        info = ledger.wait(request.id, wait) if wait else ledger.get(request.id)
        if info is None:
            raise _never_ends(ledger.get(request.id))
        return queue_service_pb2.GetJobResponse(job=info)

    def cancel_job(
        self, request: queue_service_pb2.CancelJobRequest, timeout: float
    ) -> queue_service_pb2.CancelJobResponse:
        self._check_open()
        return self._broker.cancel(request)

    def stats(self, request: StatsRequest, timeout: float) -> StatsResponse:
        self._check_open()
        return self._broker.ledger.stats(request.queues)

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed


class AsyncSyncTransport:
    """AsyncTransport: runs jobs within the task that dispatches them."""

    def __init__(self, broker: SyncBroker) -> None:
        self._broker = broker
        self._closed = False

    async def push(
        self, request: queue_service_pb2.PushRequest, timeout: float
    ) -> queue_service_pb2.PushResponse:
        self._check_open()
        response, new = self._broker.push(request, in_loop=True)
        with self._broker.dispatching():
            for job_id in new:
                for step in self._broker.steps(job_id):
                    if isinstance(step, Attempt):
                        await inline.run_async(step)
                    else:
                        await asyncio.sleep(step)
        return response

    async def get_job(
        self, request: queue_service_pb2.GetJobRequest, timeout: float
    ) -> queue_service_pb2.GetJobResponse:
        self._check_open()
        ledger, wait = self._broker.ledger, request.wait.ToTimedelta().total_seconds()
        until = time.monotonic() + wait
        while True:
            info = ledger.get(request.id)
            if read_info(info).ended or time.monotonic() >= until:
                return queue_service_pb2.GetJobResponse(job=info)
            if not ledger.runs(request.id):
                raise _never_ends(info)
            await asyncio.sleep(LOOK_AGAIN)

    async def cancel_job(
        self, request: queue_service_pb2.CancelJobRequest, timeout: float
    ) -> queue_service_pb2.CancelJobResponse:
        self._check_open()
        return self._broker.cancel(request)

    async def stats(self, request: StatsRequest, timeout: float) -> StatsResponse:
        self._check_open()
        return self._broker.ledger.stats(request.queues)

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed


def _never_ends(info: job_pb2.JobInfo) -> ResultTimeout:
    status = read_info(info)
    error = ResultTimeout(status.id, 0, status.state)
    error.add_note(
        "A client of sync:// runs a job when it is dispatched. This one is still running further "
        "up, or nothing here can run it, or it was released too often: waiting does not end it."
    )
    return error
