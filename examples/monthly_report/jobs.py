"""A report for each month, whatever happens meanwhile, and a nightly job that may miss a night."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from .recurring import Recurring

FOLDER = Path(os.environ.get("REPORTS", "reports"))


class MonthlyReport(Recurring):
    queue = "reports"
    max_attempts = 10
    cron = "0 6 1 * *"  # at six in the morning of the first
    zone = "Europe/Berlin"

    def skip_until(self) -> datetime:
        return self.planned  # nothing is left out: late is better than never

    def run(self) -> str:
        month = f"{self.planned.astimezone(ZoneInfo(self.zone)) - timedelta(days=1):%Y-%m}"
        report = FOLDER / f"{month}.txt"
        if not report.exists():
            FOLDER.mkdir(exist_ok=True)
            unfinished = report.with_suffix(".unfinished")
            unfinished.write_text(f"The report of {month}\n", encoding="utf-8")
            unfinished.rename(report)
        return month


class CleanUp(Recurring):
    queue = "reports"
    cron = "30 3 * * mon-fri"
    zone = "Europe/Berlin"

    def run(self) -> int:
        unfinished = list(FOLDER.glob("*.unfinished"))
        for each in unfinished:
            each.unlink(missing_ok=True)
        return len(unfinished)


if __name__ == "__main__":
    for each in (MonthlyReport, CleanUp):
        each.start()
