"""A producer that goes on through every failure, and writes down what it saw."""

import time
from collections.abc import Callable

from tests.faults.harness import answers
from tests.faults.harness.client import Client
from tests.faults.harness.habits import TYPE, payload_of
from tests.faults.harness.history import Pushed
from towline.ids import uuid7
from towline.v1 import queue_service_pb2 as pb
from towline.v1.job_pb2 import Job

#: So many attempts that no fault uses them up.
MANY_ATTEMPTS = 1000
#: How soon a job expires, if it does, in seconds.
EXPIRES = (1, 3)
UNIQUE_KEYS = 5


class Producer(Client):
    def run(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            jobs = [self._job() for _ in range(self._habits.push_batch)]
            if self._rng.random() < self._habits.clumsy:
                jobs.append(self._rng.choice(jobs))
            self.push(jobs)
            if self._rng.random() < self._habits.repeated:
                self.push(jobs)
            time.sleep(self._habits.pause)

    def push(self, jobs: list[Job]) -> None:
        """Until it is answered, with the same ids."""
        request = pb.PushRequest(jobs=jobs)
        asked = [self._asked(job) for job in jobs]
        while True:
            answer = self._diary.call(
                "Push",
                asked,
                lambda: self._link.queue.Push(request, timeout=self._habits.call_timeout),
                lambda answer: [
                    self._told(*each) for each in zip(jobs, answer.results, strict=True)
                ],
            )
            if answer is not None:
                return
            self._link.pause()

    def _job(self) -> Job:
        habits, rng = self._habits, self._rng
        job = Job(id=uuid7(), queue=habits.queue, type=TYPE)
        job.payload = payload_of(job.id, habits)
        job.retry.max_attempts = MANY_ATTEMPTS
        job.priority = rng.randrange(habits.priorities)
        job.retention.FromMilliseconds(round(habits.retention * 1000))
        chance = rng.random
        if chance() < habits.delayed:
            job.delay.FromMilliseconds(rng.randrange(1, round(habits.delay * 1000)))
        if chance() < habits.few_attempts:
            job.retry.max_attempts = rng.randrange(1, 4)
        if chance() < habits.expiring:
            job.expires_in.FromSeconds(rng.randint(*EXPIRES))
        if chance() < habits.unique:
            job.unique_key = f"key-{rng.randrange(UNIQUE_KEYS)}"
        # Soon, so that a run sees many attempts.
        job.retry.delays.delays.add().FromMilliseconds(50)
        return job

    def _asked(self, job: Job) -> Pushed:
        return Pushed(
            job_id=job.id,
            queue=job.queue,
            priority=job.priority,
            delay=job.delay.ToMilliseconds() / 1000,
            max_attempts=job.retry.max_attempts,
            expires=job.expires_in.ToSeconds() if job.HasField("expires_in") else None,
            unique_key=job.unique_key,
        )

    def _told(self, job: Job, result: pb.PushResult) -> Pushed:
        asked = self._asked(job)
        return Pushed(
            *(asked.job_id, asked.queue, asked.priority, asked.delay, asked.max_attempts),
            *(asked.expires, asked.unique_key),
            answer=answers.PUSHES[result.outcome],
            stored_as=result.job_id,
        )
