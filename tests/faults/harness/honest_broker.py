"""A broker that keeps every promise, in a few lines: a model, by which the checker is judged.

Nothing of the real broker is in it.
"""

from collections import Counter
from dataclasses import dataclass, replace
from math import inf

from tests.faults.harness.history import (
    Beat,
    Cancelled,
    Delivered,
    Final,
    FinalJob,
    Pushed,
    Settled,
)

#: Seconds.
LEASE = 2.0


@dataclass(slots=True)
class Job:
    spec: Pushed
    expires_at: float
    state: str = "READY"
    attempt: int = 0
    releases: int = 0
    place: int = 0
    token: str = ""
    until: float = inf
    due: float = 0.0
    reason: str = ""


class HonestBroker:
    """Time is what it is told; it never runs backwards."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.totals: Counter[str] = Counter()
        #: How leases have ended.
        self.ended: dict[str, str] = {}
        self._places = 0
        self._tokens = 0

    def push(self, now: float, spec: Pushed) -> Pushed:
        holder = next((j for j in self.jobs.values() if self._holds_key(j, spec)), None)
        if spec.job_id in self.jobs:
            return replace(spec, answer="existing", stored_as=spec.job_id)
        if holder is not None:
            return replace(spec, answer="existing", stored_as=holder.spec.job_id)
        job = Job(spec, inf if spec.expires is None else now + spec.expires)
        self.jobs[spec.job_id] = job
        self.totals["pushed"] += 1
        self._wait(job, now, now + spec.delay)
        return replace(spec, answer="created", stored_as=spec.job_id)

    def reserve(self, now: float, most: int) -> list[Delivered]:
        ready = [job for job in self.jobs.values() if job.state == "READY"]
        ready.sort(key=lambda job: (-job.spec.priority, job.place))
        brought = []
        for job in ready[:most]:
            self._tokens += 1
            job.state, job.attempt = "LEASED", job.attempt + 1
            job.token, job.until = f"{job.spec.job_id}/{self._tokens}", now + LEASE
            self.totals["started"] += 1
            brought.append(Delivered(job.spec.job_id, job.attempt, job.token, LEASE))
        return brought

    def settle(self, now: float, item: Settled) -> Settled:
        job = self._held(item.job_id, item.token)
        if job is None:
            return replace(item, answer=self._repeated(item.token, item.action))
        self.ended[item.token] = item.action
        match item.action:
            case "ack":
                job.state = "SUCCEEDED"
                self.totals["completed"] += 1
            case "reject":
                self._fail(job, "REJECTED")
            case "release":
                job.attempt, job.releases = job.attempt - 1, job.releases + 1
                self.totals["released"] += 1
                self._wait(job, now, now + (item.delay or 0))
            case _:
                last = job.attempt >= job.spec.max_attempts
                self._fail(job, "ATTEMPTS_EXHAUSTED" if last else "")
                if not last:
                    self._wait(job, now, now + (item.delay or 0))
        return replace(item, answer="ok")

    def beat(self, now: float, item: Beat) -> Beat:
        job = self._held(item.job_id, item.token)
        if job is None:
            how = self.ended.get(item.token)
            names = {None: "not_found", "lost": "lease_lost", "cancel": "cancelled"}
            return replace(item, answer=names.get(how, "already_settled"))
        job.until = now + LEASE
        return replace(item, answer="ok", remaining=LEASE)

    def cancel(self, job_id: str) -> Cancelled:
        job = self.jobs.get(job_id)
        if job is None:
            return Cancelled(job_id, "not_found")
        if job.state in ("SUCCEEDED", "DEAD", "DISCARDED"):
            return Cancelled(job_id, "already_ended")
        if job.state == "LEASED":
            self.ended[job.token] = "cancel"
        if job.state != "CANCELLED":
            self.totals["cancelled"] += 1
        job.state = "CANCELLED"
        return Cancelled(job_id, "cancelled")

    def requeue(self, now: float, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state != "DEAD":
            return False
        self.totals["requeued"] += 1
        job.attempt, job.reason, job.expires_at = 0, "", inf
        self._wait(job, now, now)
        return True

    def discard(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None or job.state != "DEAD":
            return False
        job.state = "DISCARDED"
        return True

    def pass_time(self, now: float) -> None:
        for job in list(self.jobs.values()):
            if job.state == "SCHEDULED" and job.due <= now:
                self._wait(job, job.due, job.due)
            if job.state in ("SCHEDULED", "READY") and not job.attempt and job.expires_at <= now:
                self._die(job, "EXPIRED")
            if job.state == "LEASED" and job.until <= now:
                self.ended[job.token] = "lost"
                last = job.attempt >= job.spec.max_attempts
                self.totals["lease_expired"] += 1
                self._fail(job, "LEASE_EXPIRED" if last else "")
                if not last:
                    self._wait(job, now, now)

    def final(self) -> Final:
        jobs = [job for job in self.jobs.values() if job.state != "DISCARDED"]
        return Final(
            [
                FinalJob(job.spec.job_id, job.state, job.attempt, job.releases, job.reason)
                for job in jobs
            ],
            [job.spec.job_id for job in jobs if job.state == "DEAD"],
            dict(self.totals) | {name: self.totals[name] for name in _TOTALS},
            {"dead": sum(job.state == "DEAD" for job in jobs)},
            forgets_succeeded=False,
        )

    @property
    def rests(self) -> bool:
        return not any(job.state in ("SCHEDULED", "READY", "LEASED") for job in self.jobs.values())

    def _holds_key(self, job: Job, spec: Pushed) -> bool:
        live = job.state in ("SCHEDULED", "READY", "LEASED")
        return live and bool(spec.unique_key) and job.spec.unique_key == spec.unique_key

    def _held(self, job_id: str, token: str) -> Job | None:
        job = self.jobs.get(job_id)
        return job if job is not None and job.state == "LEASED" and job.token == token else None

    def _repeated(self, token: str, action: str) -> str:
        how = self.ended.get(token)
        if how is None:
            return "not_found"
        if how == action:
            return "ok"
        return "lease_lost" if how in ("lost", "cancel") else "already_settled"

    def _fail(self, job: Job, reason: str) -> None:
        self.totals["failed"] += 1
        if reason:
            self._die(job, reason)
        else:
            self.totals["retried"] += 1

    def _die(self, job: Job, reason: str) -> None:
        job.state, job.reason = "DEAD", reason
        self.totals["dead_lettered"] += 1

    def _wait(self, job: Job, now: float, due: float) -> None:
        job.state, job.due = ("SCHEDULED", due) if due > now else ("READY", now)
        self._places += 1
        job.place = self._places


_TOTALS = (
    *("pushed", "started", "completed", "failed", "retried", "released"),
    *("dead_lettered", "lease_expired", "cancelled", "requeued"),
)
