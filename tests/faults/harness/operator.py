"""An operator who cancels jobs, and requeues or discards dead ones, and writes down what came of
it."""

import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from tests.faults.harness import answers
from tests.faults.harness.client import Client
from tests.faults.harness.diary import excused
from tests.faults.harness.history import Cancelled, Discarded, Requeued
from towline.v1 import dead_letter_service_pb2 as dead
from towline.v1 import queue_service_pb2 as queues
from towline.v1.job_pb2 import JobState

#: So many jobs are looked at, to choose one.
_PAGE = 20

_LIVE = (JobState.JOB_STATE_SCHEDULED, JobState.JOB_STATE_READY, JobState.JOB_STATE_LEASED)


class Operator(Client):
    def run(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            [deed] = self._rng.choices((self._cancel, self._requeue, self._discard), (2, 2, 1))
            deed()
            time.sleep(self._habits.operated)

    def _cancel(self) -> None:
        [state] = self._rng.choices(_LIVE, (1, 1, 2))
        request = queues.ListJobsRequest(states=[state], page_size=_PAGE)
        job_id = self._one_of(self._link.queue.ListJobs, request)
        if job_id is not None:
            cancel = queues.CancelJobRequest(ids=[job_id])
            self._diary.call(
                "CancelJob",
                [Cancelled(job_id)],
                lambda: self._link.queue.CancelJob(cancel, timeout=self._habits.call_timeout),
                lambda answer: [Cancelled(job_id, answers.CANCELS[answer.results[0].outcome])],
            )

    def _requeue(self) -> None:
        selection = self._dead_one()
        if selection is not None:
            [job_id] = selection.ids
            requeue = dead.RequeueDeadRequest(selection=selection)
            self._diary.call(
                "RequeueDead",
                [Requeued(job_id)],
                lambda: self._link.dead.RequeueDead(requeue, timeout=self._habits.call_timeout),
                lambda answer: [Requeued(job_id, answer.requeued == 1)],
            )

    def _discard(self) -> None:
        selection = self._dead_one()
        if selection is not None:
            [job_id] = selection.ids
            discard = dead.DiscardDeadRequest(selection=selection)
            self._diary.call(
                "DiscardDead",
                [Discarded(job_id)],
                lambda: self._link.dead.DiscardDead(discard, timeout=self._habits.call_timeout),
                lambda answer: [Discarded(job_id, answer.discarded == 1)],
            )

    def _dead_one(self) -> dead.DeadSelection | None:
        job_id = self._one_of(self._link.dead.ListDead, dead.ListDeadRequest(page_size=_PAGE))
        return None if job_id is None else dead.DeadSelection(ids=[job_id])

    def _one_of(self, look: Callable[..., Any], request: Message) -> str | None:
        """The id of one of the jobs that this call lists, if it is answered.

        Raises grpc.RpcError for a status that no fault excuses.
        """
        try:
            jobs = look(request, timeout=self._habits.call_timeout).jobs
        except grpc.RpcError as error:
            if not excused(error.code()):
                raise
            self._link.pause()
            return None
        return self._rng.choice(jobs).job.id if jobs else None
