import asyncio

from towline import Job, current_job


class BuildReport(Job):
    queue = "reports"
    retention = 3600  # its outcome can be asked for an hour
    timeout = 60
    month: str

    async def handle(self) -> dict[str, str | int]:
        pages = 10
        for page in range(1, pages + 1):
            await asyncio.sleep(0.1)  # stands for the work
            current_job().progress(page / pages, f"page {page} of {pages}")
        return {"month": self.month, "pages": pages}
