"""Jobs that dispatch their next run themselves, by a cron expression in a time zone."""

from datetime import UTC, datetime
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from cronsim import CronSim

from towline import Job, JobHandle


class Recurring(Job, abstract=True):
    """Write ``cron`` and ``run``, and call ``start`` whenever your program is deployed.

        class CleanUp(Recurring):
            cron = "30 3 * * *"
            zone = "Europe/Lisbon"

            def run(self): ...

    A run dispatches the next one first, so that no failure of its own breaks the chain. However
    often it does so, and however often ``start`` is called: a run has one job, since its time is
    its key. (No ``expires_in`` here: a job that has expired dispatches nothing.)
    """

    cron: ClassVar[str]
    zone: ClassVar[str] = "UTC"
    planned: datetime
    """When this run was to begin."""

    @classmethod
    def start(cls) -> JobHandle:
        """Dispatch the next run, if it is not there already."""
        return cls.dispatch_next(datetime.now(UTC))

    @classmethod
    def dispatch_next(cls, after: datetime) -> JobHandle:
        local = after.astimezone(ZoneInfo(cls.zone))
        planned = next(CronSim(cls.cron, local)).astimezone(UTC)
        return cls(planned=planned).dispatch(at=planned)

    def unique_key(self) -> str:
        return f"{self.job_type} {self.planned.astimezone(UTC).isoformat()}"

    def handle(self) -> Any:
        self.dispatch_next(max(self.planned, self.skip_until()))
        return self.run()

    def skip_until(self) -> datetime:
        """Runs before this are left out: by default what was missed while nothing could run."""
        return datetime.now(UTC)

    def run(self) -> Any:
        """The work. It may happen twice for one time, as with any job."""
        raise NotImplementedError
